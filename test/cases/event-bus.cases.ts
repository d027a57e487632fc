// Every EventBus delivers an event completely and keeps the order of a key. Run against the in-process bus and against
// Pub/Sub on the real emulator.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { EventBus, GatewayEvent } from '../../shared/webhooks/event.ts';

/** A bus under test, and the other end of it. */
export interface BusUnderTest {
  readonly bus: EventBus;
  /** Resolves with the events that arrived, once there are at least `count` distinct ones that satisfy `which`. */
  arrived(count: number, which: (event: GatewayEvent) => boolean): Promise<readonly GatewayEvent[]>;
  close(): Promise<void>;
}

export function eventBusCases(name: string, open: () => Promise<BusUnderTest>): void {
  describe(name, () => {
    let opened: BusUnderTest;
    beforeAll(async () => {
      opened = await open();
    });
    afterAll(() => opened.close());

    test('an event bus delivers an event with every field as it was published', async () => {
      const event = eventOf('whole', {
        type: 'deployment.success',
        source: '/webhook/key/d%C3%A9faut',
        time: '2025-01-13T10:30:00.123+02:00',
        body: JSON.stringify({
          event: 'deployment.success',
          data: { text: 'é𝄞\u0000\u2028', nested: [[1], { a: null }] },
        }),
        orderingKey: 'wrapper é',
      });
      const { messageId } = await opened.bus.publish(event);
      expect(messageId).not.toBe('');
      const [received] = await opened.arrived(1, ({ id }) => id === event.id);
      expect(received).toEqual(event);
    });

    test('the bus gives each message an id of its own', async () => {
      const events = Array.from({ length: 20 }, (_, n) => eventOf(`names-${n}`));
      const sent = await Promise.all(events.map((event) => opened.bus.publish(event)));
      expect(new Set(sent.map(({ messageId }) => messageId)).size).toBe(20);
    });

    test('an event bus keeps the order of a key, for events published at the same time', async () => {
      const events = Array.from({ length: 30 }, (_, n) => eventOf(`order-${n}`, { orderingKey: `key-${n % 3}` }));
      await Promise.all(events.map((event) => opened.bus.publish(event)));
      const received = await opened.arrived(30, ({ id }) => id.startsWith('order-'));
      for (const key of ['key-0', 'key-1', 'key-2']) {
        const firsts = [...new Set(received.filter((event) => event.orderingKey === key).map(({ id }) => id))];
        expect(firsts).toEqual(events.filter((event) => event.orderingKey === key).map(({ id }) => id));
      }
    });

    test('an event bus carries an event of the largest size', async () => {
      const event = eventOf('large', { body: JSON.stringify({ pad: 'x'.repeat(900 * 1024 - 10) }) });
      await opened.bus.publish(event);
      const [received] = await opened.arrived(1, ({ id }) => id === 'large');
      expect(received?.body.length).toBe(event.body.length);
    });

    test('an event bus does not publish for a caller that has aborted before', async () => {
      const reason = new Error('gone');
      await expect(opened.bus.publish(eventOf('gone'), { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    });

    test('a ping of the bus resolves', async () => {
      await opened.bus.ping();
    });
  });
}

function eventOf(id: string, fields: Partial<GatewayEvent> = {}): GatewayEvent {
  return {
    id,
    type: 'test.event',
    source: '/webhook/key/default',
    time: '2025-01-13T10:30:00Z',
    recordedAtMs: Date.parse('2025-01-13T10:30:00.123Z'),
    body: '{}',
    orderingKey: 'wrapper',
    ...fields,
  };
}
