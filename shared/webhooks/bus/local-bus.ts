// The EventBus of a single process: calls the registered subscribers. `publish` resolves when every subscriber has
// processed the event, so no event exists in memory only: if a subscriber keeps failing, `publish` rejects and the
// event stays in the outbox.
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { deadline, orAbort } from '../../async.ts';
import { RpcError } from '../../errors.ts';
import { errorFields, type Logger } from '../../log.ts';
import type { EventBus, GatewayEvent } from '../event.ts';

const ATTEMPTS_MAX = 3;
const PAUSE_MS = 20;
const ATTEMPT_TIMEOUT_MS = 2_000;

/** A function that processes events. It may receive an event again and must recognise it by its id. */
export type Subscriber = (event: GatewayEvent, options: { readonly signal: AbortSignal }) => Promise<unknown>;

export interface LocalBus extends EventBus {
  /**
   * Calls `subscriber` for every event published from now on; `name` appears in the log. Returns the function that
   * unsubscribes.
   */
  subscribe(name: string, subscriber: Subscriber): () => void;
}

/** In-process bus. Events of one ordering key are delivered one after the other, in the order of publishing. */
export function createLocalBus(options: { readonly log: Logger }): LocalBus {
  const subscribers = new Map<string, Subscriber>();
  /**
   * The last running delivery per ordering key; removed when no delivery follows. Bounded by the requests in flight.
   */
  const tails = new Map<string, Promise<void>>();
  let closed = false;

  const attempt = async (name: string, subscriber: Subscriber, event: GatewayEvent): Promise<void> => {
    for (let count = 1; ; count++) {
      const signal = deadline(ATTEMPT_TIMEOUT_MS);
      try {
        await orAbort(subscriber(event, { signal }), signal);
        return;
      } catch (error) {
        const fields = { subscriber: name, event_id: event.id, attempt: count, ...errorFields(error) };
        options.log.log(count < ATTEMPTS_MAX ? 'WARNING' : 'ERROR', 'subscriber failed', fields);
        if (count === ATTEMPTS_MAX) throw new RpcError('unavailable', { cause: error });
        await sleep(PAUSE_MS * count);
      }
    }
  };

  const deliver = async (event: GatewayEvent): Promise<void> => {
    const all = await Promise.allSettled(
      [...subscribers].map(([name, subscriber]) => attempt(name, subscriber, event)),
    );
    for (const outcome of all) if (outcome.status === 'rejected') throw outcome.reason;
  };

  return {
    subscribe(name, subscriber) {
      if (subscribers.has(name)) throw new Error(`subscriber ${name} is already registered`);
      subscribers.set(name, subscriber);
      return () => void subscribers.delete(name);
    },
    async publish(event, { signal } = {}) {
      if (closed) throw new RpcError('unavailable', { message: 'the event bus is closed' });
      signal?.throwIfAborted();
      const before = tails.get(event.orderingKey) ?? Promise.resolve();
      const delivery = before.then(() => deliver(event));
      const tail = delivery.catch(() => {});
      tails.set(event.orderingKey, tail);
      void tail.then(() => {
        if (tails.get(event.orderingKey) === tail) tails.delete(event.orderingKey);
      });
      await orAbort(delivery, signal);
      return { messageId: `local-${randomUUID()}` };
    },
    async ping() {
      if (closed) throw new RpcError('unavailable', { message: 'the event bus is closed' });
    },
    async close() {
      closed = true;
      await Promise.all(tails.values());
    },
  };
}
