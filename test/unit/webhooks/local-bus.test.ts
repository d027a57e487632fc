// The in-process bus delivers each event to every subscriber, or refuses it.
import { describe, expect, test } from 'vitest';
import { createLogger } from '../../../shared/log.ts';
import { createLocalBus } from '../../../shared/webhooks/bus/local-bus.ts';
import type { GatewayEvent } from '../../../shared/webhooks/event.ts';
import { eventBusCases } from '../../cases/event-bus.cases.ts';

const log = createLogger({ format: 'json', write: () => {} });
const event: GatewayEvent = {
  id: 'e',
  type: 't',
  source: '/s',
  time: '2025-01-13T10:30:00Z',
  recordedAtMs: 0,
  body: '{}',
  orderingKey: 'k',
};

eventBusCases('the in-process bus', async () => {
  const bus = createLocalBus({ log });
  const received: GatewayEvent[] = [];
  bus.subscribe('cases', async (each) => received.push(each));
  return {
    bus,
    // Publishing resolves after delivery, so there is nothing to wait for.
    arrived: async (_, which) => received.filter(which),
    close: () => bus.close(),
  };
});

describe('the in-process bus', () => {
  test('the bus tries a subscriber that fails again', async () => {
    const bus = createLocalBus({ log });
    let calls = 0;
    bus.subscribe('shaky', async () => {
      if (++calls < 3) throw new Error('not yet');
    });
    await bus.publish(event);
    expect(calls).toBe(3);
  });

  test('the bus refuses an event that a subscriber refuses repeatedly, and still delivers it to the others', async () => {
    const bus = createLocalBus({ log });
    let others = 0;
    let calls = 0;
    bus.subscribe('broken', async () => {
      calls++;
      throw new Error('never');
    });
    bus.subscribe('fine', async () => others++);
    await expect(bus.publish(event)).rejects.toMatchObject({ reason: 'unavailable' });
    expect([calls, others]).toEqual([3, 1]);
  });

  test('the in-process bus continues with a key after a failure', async () => {
    const bus = createLocalBus({ log });
    const received: string[] = [];
    bus.subscribe('picky', async ({ id }) => {
      if (id === 'bad') throw new Error('no');
      received.push(id);
    });
    const bad = bus.publish({ ...event, id: 'bad' });
    const good = bus.publish({ ...event, id: 'good' });
    await expect(bad).rejects.toMatchObject({ reason: 'unavailable' });
    await good;
    expect(received).toEqual(['good']);
  });

  test('the bus stops waiting when its caller does', async () => {
    const bus = createLocalBus({ log });
    bus.subscribe('slow', () => new Promise(() => {}));
    const caller = new AbortController();
    const publishing = bus.publish(event, { signal: caller.signal });
    caller.abort(new Error('enough'));
    await expect(publishing).rejects.toThrow('enough');
  });

  test('the bus delivers nothing to a subscriber that has left, and accepts nothing after close', async () => {
    const bus = createLocalBus({ log });
    let calls = 0;
    const leave = bus.subscribe('short', async () => calls++);
    leave();
    await bus.publish(event);
    expect(calls).toBe(0);
    await bus.close();
    await expect(bus.publish(event)).rejects.toMatchObject({ reason: 'unavailable' });
    await expect(bus.ping()).rejects.toMatchObject({ reason: 'unavailable' });
  });
});
