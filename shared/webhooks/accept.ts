// The webhook pipeline, once, above Store and EventBus: record -> publish and await -> mark sent -> answer. Every
// acknowledged event is recorded; every recorded event is published by this call or by the sweeper.

import { deadline, orAbort } from '../async.ts';
import type { Clock } from '../clock.ts';
import { errorFields, type Logger } from '../log.ts';
import { type Counting, ridingStore } from '../store/ride.ts';
import type { Store } from '../store/store.ts';
import type { EventBus, GatewayEvent } from './event.ts';
import { type Delivery, toEvent } from './interpret.ts';
import { type Claimed, markSent, record } from './outbox.ts';

/** Deadline of one publish; the Pub/Sub SDK's own default is ten minutes. */
export const PUBLISH_TIMEOUT_MS = 5_000;

/** Events of the same millisecond get increasing times of arrival, at most this far ahead of the clock. */
const ARRIVAL_AHEAD_MS_MAX = 1_000;

/** The services that the pipeline uses. */
export interface Pipeline {
  readonly store: Store;
  readonly bus: EventBus;
  readonly clock: Clock;
  readonly log: Logger;
}

/** The answer to a delivery, wire names. `queued` (HTTP 202): recorded, published later; then `message_id` is null. */
export interface Receipt {
  readonly status: 'accepted' | 'queued';
  readonly event_id: string;
  readonly message_id: string | null;
  readonly duplicate: boolean;
}

/**
 * Records and publishes a delivery. Throws RpcError `parse_error` or `invalid_request` for a body that is no event,
 * `unavailable` when it could not be recorded (it is then not acknowledged, and the sender repeats it). A failing bus
 * is not an error: the event is queued. `counting`: nothing is recorded or published before the call is admitted.
 */
export async function acceptDelivery(services: Pipeline, delivery: Delivery, counting?: Counting): Promise<Receipt> {
  const nowMs = services.clock.now();
  counting?.ride.expect();
  const event = toEvent(delivery, arrivalMs(nowMs));
  const store = counting === undefined ? services.store : ridingStore(services.store, counting);
  const recorded = await record(store, event, nowMs);
  await counting?.admitted;
  const duplicate = recorded.kind !== 'claimed' || recorded.duplicate;
  const messageId =
    recorded.kind === 'sent'
      ? recorded.messageId
      : recorded.kind === 'claimed'
        ? await publishClaimed(services, recorded)
        : undefined;
  if (messageId === undefined) return { status: 'queued', event_id: event.id, message_id: null, duplicate };
  return { status: 'accepted', event_id: event.id, message_id: messageId, duplicate };
}

let lastArrivalMs = 0;

/** Events of one millisecond keep the order of their arrival. */
function arrivalMs(nowMs: number): number {
  const nextMs = lastArrivalMs + 1;
  const isAhead = nextMs > nowMs && nextMs <= nowMs + ARRIVAL_AHEAD_MS_MAX;
  lastArrivalMs = isAhead ? nextMs : nowMs;
  return lastArrivalMs;
}

/**
 * Publishes a claimed event and marks it sent. Resolves to undefined when the bus did not accept it; it stays in the
 * outbox.
 */
export async function publishClaimed(services: Pipeline, claimed: Claimed): Promise<string | undefined> {
  const { event } = claimed;
  let messageId: string;
  try {
    messageId = await publish(services, event);
  } catch (error) {
    services.log.warn('event not published, left to the sweeper', {
      event_id: event.id,
      ...errorFields(error),
    });
    return undefined;
  }
  try {
    await markSent(services.store, claimed, messageId);
  } catch (error) {
    // The event is published, so the response is valid. The sweeper publishes it again, and subscribers recognise it by
    // its id.
    services.log.warn('published event not marked sent', { event_id: event.id, ...errorFields(error) });
  }
  return messageId;
}

async function publish(services: Pipeline, event: GatewayEvent): Promise<string> {
  const signal = deadline(PUBLISH_TIMEOUT_MS);
  return (await orAbort(services.bus.publish(event, { signal }), signal)).messageId;
}
