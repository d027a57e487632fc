// Reads an event out of a delivery: which event, when, about which service. Refuses bodies that are not JSON objects or
// name no event; stores and sends nothing.
import { createHash } from 'node:crypto';
import { RpcError } from '../errors.ts';
import { parseKeptJson } from '../rpc/parse.ts';
import { EventTime } from './bus/cloud-event.ts';
import type { GatewayEvent } from './event.ts';

/** Cap of a webhook body: the document that keeps it must stay under Firestore's 1 MiB with all its other fields. */
export const EVENT_BODY_BYTES_MAX = 900 << 10;
/**
 * An event that claims to be from further ahead than this takes the time of its arrival: it must not outrank all later
 * ones.
 */
const FUTURE_MS_MAX = 5 * 60_000;
const NAME = /^[^\p{Cc}\p{Zl}\p{Zp}]{1,128}$/u;

/** One request to `/webhook` after its sender is known. */
export interface Delivery {
  /** CloudEvents `source`: who sent it. */
  readonly source: string;
  /** Within which an id names one delivery. Default: `source`, so that no sender can occupy another one's ids. */
  readonly idScope?: string | undefined;
  /** `webhook-id` or `X-GitHub-Delivery`: the sender's own name of this delivery. */
  readonly deliveryId?: string | undefined;
  /** `X-GitHub-Event`, used when the body has no `event` of its own. */
  readonly eventHeader?: string | undefined;
  /** The body exactly as it came. */
  readonly body: Uint8Array;
}

/**
 * Delivery -> event. Its name is the body's `event`, else the `X-GitHub-Event` header, else the body's `type`. Beside
 * that header the body's `event` only counts in our own shape, with `data`: some GitHub payloads have an `event` that
 * means something else. `time` is the body's `timestamp` where it is a time, else `nowMs`. Throws RpcError
 * `parse_error` or `invalid_request`.
 */
export function toEvent(delivery: Delivery, nowMs: number): GatewayEvent {
  const value = parseKeptJson(delivery.body);
  if (!isObject(value)) throw refused('the body must be a JSON object');
  const { eventHeader } = delivery;
  const ownName = eventHeader === undefined || Object.hasOwn(value, 'data') ? value.event : undefined;
  const type = [ownName, eventHeader, value.type].find((name) => typeof name === 'string' && name !== '');
  if (typeof type !== 'string' || !NAME.test(type)) {
    throw refused(
      'name the event in `event`, `type` or X-GitHub-Event: 1 to 128 characters, none of them control characters',
    );
  }
  return {
    id: eventId(delivery),
    // Names become attributes of a message, which are UTF-8; the body stays as it came.
    type: type.toWellFormed(),
    source: delivery.source,
    time: timeOf(value.timestamp, nowMs),
    recordedAtMs: nowMs,
    body: Buffer.from(delivery.body).toString('utf8'),
    orderingKey: serviceOf(value) ?? delivery.source,
  };
}

/**
 * `evt_` + 43 characters, the same for every repetition of a delivery. Senders that give no delivery id are
 * recognised by the bytes of the body.
 */
export function eventId(delivery: Delivery): string {
  const named = delivery.deliveryId !== undefined && delivery.deliveryId !== '';
  const parts = [delivery.idScope ?? delivery.source, named ? 'delivery' : 'body'];
  const hash = createHash('sha256').update(`${JSON.stringify(parts)}\n`);
  return `evt_${hash.update(named ? (delivery.deliveryId ?? '') : delivery.body).digest('base64url')}`;
}

/** The service an event is about: `data.service`, when it is a name of reasonable length. */
export function serviceOf(body: Readonly<Record<string, unknown>>): string | undefined {
  const service = isObject(body.data) ? body.data.service : undefined;
  return typeof service === 'string' && NAME.test(service) ? service.toWellFormed() : undefined;
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** A valid RFC 3339 time is kept letter by letter; everything else becomes the time of arrival. */
function timeOf(claimed: unknown, nowMs: number): string {
  const { data: time } = EventTime.safeParse(claimed);
  if (time !== undefined && Date.parse(time) <= nowMs + FUTURE_MS_MAX) return time;
  return new Date(nowMs).toISOString();
}

function refused(detail: string): RpcError {
  return new RpcError('invalid_request', { data: { detail } });
}
