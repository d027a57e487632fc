// Converts a delivery to an event: name, time and service. Refuses bodies that are not JSON objects or do not name an
// event. Does not store or send.

import { createHash } from 'node:crypto';
import { RpcError } from '../errors.ts';
import { isObject } from '../json/json-object.ts';
import { parseKeptJson } from '../rpc/parse.ts';
import { EventTime } from './bus/cloud-event.ts';
import type { GatewayEvent } from './event.ts';

/** Most bytes of a webhook body: its document with all other fields must be smaller than Firestore's limit of 1 MiB. */
export const EVENT_BODY_BYTES_MAX = 900 << 10;
/**
 * An event whose time is further in the future gets the time of its arrival, so that it does not count as newer than
 * all later ones.
 */
const FUTURE_MS_MAX = 5 * 60_000;
const NAME = /^[^\p{Cc}\p{Zl}\p{Zp}]{1,128}$/u;

/** An authenticated request to `/webhook`. */
export interface Delivery {
  /** The sender: CloudEvents `source`. */
  readonly source: string;
  /** The namespace of delivery ids. Default: `source`, so that a sender cannot use up the ids of another one. */
  readonly idScope?: string | undefined;
  /** The sender's id of this delivery: `webhook-id` or `X-GitHub-Delivery`. */
  readonly deliveryId?: string | undefined;
  /** `X-GitHub-Event`, used if the body has no `event`. */
  readonly eventHeader?: string | undefined;
  /** The received bytes. */
  readonly body: Uint8Array;
}

/**
 * Delivery -> event. Its name is the body's `event`, else the `X-GitHub-Event` header, else the body's `type`. With
 * that header, the body's `event` is used only if the body has `data` too, because some GitHub payloads have another
 * `event`. `time` is the body's `timestamp` if that is a valid time, else `nowMs`. Throws RpcError `parse_error` or
 * `invalid_request`.
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
    // Names become attributes of a message, which must be UTF-8; the body is not changed.
    type: type.toWellFormed(),
    source: delivery.source,
    time: timeOf(value.timestamp, nowMs),
    recordedAtMs: nowMs,
    body: Buffer.from(delivery.body).toString('utf8'),
    orderingKey: serviceOf(value) ?? delivery.source,
  };
}

/**
 * `evt_` + 43 characters, the same for every repetition of a delivery. Without a delivery id, the hash of the body
 * identifies the delivery.
 */
export function eventId(delivery: Delivery): string {
  const named = delivery.deliveryId !== undefined && delivery.deliveryId !== '';
  const parts = [delivery.idScope ?? delivery.source, named ? 'delivery' : 'body'];
  const hash = createHash('sha256').update(`${JSON.stringify(parts)}\n`);
  return `evt_${hash.update(named ? (delivery.deliveryId ?? '') : delivery.body).digest('base64url')}`;
}

/** The service of an event: `data.service`, if it is a string of bounded length. */
function serviceOf(body: Readonly<Record<string, unknown>>): string | undefined {
  const service = isObject(body.data) ? body.data.service : undefined;
  return typeof service === 'string' && NAME.test(service) ? service.toWellFormed() : undefined;
}

/** A valid RFC 3339 time unchanged; any other value becomes the time of arrival. */
function timeOf(claimed: unknown, nowMs: number): string {
  const { data: time } = EventTime.safeParse(claimed);
  if (time !== undefined && Date.parse(time) <= nowMs + FUTURE_MS_MAX) return time;
  return new Date(nowMs).toISOString();
}

function refused(detail: string): RpcError {
  return new RpcError('invalid_request', { data: { detail } });
}
