// A delivery that is acknowledged is recorded and published once, whether the store, the bus or the instance fails in
// between.
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { acceptDelivery } from '../../../shared/webhooks/accept.ts';
import { Events, Outbox } from '../../../shared/webhooks/documents.ts';
import type { GatewayEvent } from '../../../shared/webhooks/event.ts';
import { eventId, toEvent } from '../../../shared/webhooks/interpret.ts';
import { CLAIM_MS } from '../../../shared/webhooks/outbox.ts';
import { startSweeper, sweep } from '../../../shared/webhooks/sweep.ts';
import { COSTS } from '../../support/documents/cost-table.ts';
import { createFixture, deliveryOf, type Fixture, REFERENCE_EVENT } from '../../support/fixtures/webhooks/webhooks.ts';

let fixture: Fixture;
let received: GatewayEvent[];

beforeEach(async () => {
  fixture = await createFixture();
  received = [];
  fixture.local.subscribe('test', async (event) => received.push(event));
});
afterEach(() => fixture.close());

const accept = (body: unknown = REFERENCE_EVENT, fields = {}) =>
  acceptDelivery(fixture.services, deliveryOf(body, fields));

async function stored(id: string) {
  const [event, outbox] = await fixture.store.get([Events.ref(id), Outbox.ref(id)]);
  return { event: event?.data, outbox: outbox?.data };
}

describe('a delivery', () => {
  test('a delivery is recorded, published and marked sent before it is acknowledged', async () => {
    const receipt = await accept();
    expect(receipt).toEqual({
      status: 'accepted',
      event_id: expect.stringMatching(/^evt_/),
      message_id: expect.stringMatching(/^local-/),
      duplicate: false,
    });
    expect(received).toEqual([
      {
        id: receipt.event_id,
        type: 'deployment.success',
        source: '/webhook/key/default',
        time: '2025-01-13T10:30:00Z',
        recordedAtMs: expect.any(Number),
        body: JSON.stringify(REFERENCE_EVENT),
        orderingKey: 'wrapper',
      },
    ]);
    const { event, outbox } = await stored(receipt.event_id);
    expect(event).toMatchObject({
      state: 'sent',
      message_id: expect.stringMatching(/^local-/),
      body: JSON.stringify(REFERENCE_EVENT),
    });
    expect(outbox).toBeUndefined();
  });

  test.each([
    ['8 hours', 8 * 3_600_000],
    ['400 days', 400 * 86_400_000],
  ])('a delivery is published by the next sweep when its instance died with its clock %s ahead', async (_, aheadMs) => {
    fixture.clock.step(aheadMs);
    fixture.wire.up = false;
    const { event_id } = await accept();
    fixture.clock.step(-aheadMs);
    fixture.wire.up = true;
    expect(await sweep(fixture.services)).toMatchObject({ published: 1 });
    expect(received).toMatchObject([{ id: event_id }]);
    expect(await sweep(fixture.services)).toMatchObject({ published: 0 });
  });

  test('a new delivery costs three document writes, one delete and no read', async () => {
    fixture.counted.reset();
    await accept();
    expect(fixture.counted.operations).toEqual({ reads: 0, commits: 4, lost: 0, locks: 0 });
    // In the table of prices also the limiter, the subscriber, and the deletion of the expired event.
    expect(COSTS.webhook).toMatchObject({ writes: { count: 3 + 2 }, deletes: { count: 1 + 1 } });
  });

  test('a delivery that is repeated gets the first answer again and is not published again', async () => {
    const first = await accept(REFERENCE_EVENT, { deliveryId: 'msg_1' });
    const again = await accept({ ...REFERENCE_EVENT, extra: 1 }, { deliveryId: 'msg_1' });
    expect(again).toEqual({ ...first, duplicate: true });
    expect(received).toHaveLength(1);
  });

  test('a delivery arrives after the one before it, within the same millisecond too', async () => {
    for (let n = 0; n < 3; n++) await accept({ event: 'step', data: { n } });
    const arrivals = received.map(({ recordedAtMs }) => recordedAtMs);
    expect(new Set(arrivals).size).toBe(3);
    expect(arrivals).toEqual(arrivals.toSorted((a, b) => a - b));
  });

  test('a delivery that is repeated a hundred times concurrently is published once', async () => {
    const receipts = await Promise.all(Array.from({ length: 100 }, () => accept()));
    expect(receipts.filter((receipt) => !receipt.duplicate)).toHaveLength(1);
    expect(new Set(receipts.map((receipt) => receipt.event_id)).size).toBe(1);
    expect(received).toHaveLength(1);
  });

  test('a delivery cannot be suppressed by another sender that uses its delivery id first', async () => {
    await accept({ event: 'noise' }, { source: '/webhook/key/other', deliveryId: 'msg_1' });
    const receipt = await accept(REFERENCE_EVENT, { deliveryId: 'msg_1' });
    expect(receipt.duplicate).toBe(false);
    expect(received.map((event) => event.type)).toEqual(['noise', 'deployment.success']);
  });

  test('a delivery is forgotten after 30 days, and only then', async () => {
    await accept();
    fixture.clock.advance(30 * 86_400_000 - 1_000);
    expect((await accept()).duplicate).toBe(true);
    fixture.clock.advance(2_000);
    expect((await accept()).duplicate).toBe(false);
  });
});

describe('when the bus is down, a delivery', () => {
  test('a delivery while the bus is down is queued, stays queued when repeated, and is delivered once by the sweeper', async () => {
    fixture.wire.up = false;
    const first = await accept();
    expect(first).toMatchObject({ status: 'queued', message_id: null, duplicate: false });
    expect(await accept()).toEqual({ ...first, duplicate: true });

    fixture.wire.up = true;
    expect(await sweep(fixture.services)).toEqual({ published: 0, failed: 0, lost: 0 });
    fixture.clock.advance(CLAIM_MS);
    expect(await sweep(fixture.services)).toEqual({ published: 1, failed: 0, lost: 0 });
    expect(received.map((event) => event.id)).toEqual([first.event_id]);
    expect(await accept()).toEqual({
      ...first,
      status: 'accepted',
      message_id: expect.stringMatching(/^local-/),
      duplicate: true,
    });
    expect((await stored(first.event_id)).outbox).toBeUndefined();
  });

  test('a repeated delivery is published after the claim of the first has expired', async () => {
    fixture.wire.up = false;
    await accept();
    fixture.wire.up = true;
    fixture.clock.advance(CLAIM_MS);
    expect(await accept()).toMatchObject({
      status: 'accepted',
      message_id: expect.stringMatching(/^local-/),
      duplicate: true,
    });
    expect(received).toHaveLength(1);
  });
});

describe('when the store is down, a delivery', () => {
  test('a delivery while the store is down is refused as unavailable and nothing is published', async () => {
    fixture.store.state = 'down';
    await expect(accept()).rejects.toMatchObject({ reason: 'unavailable' });
    expect(received).toHaveLength(0);
  });

  test('a delivery whose record was stored although its response was lost is still delivered', async () => {
    fixture.store.state = 'unconfirmed';
    await expect(accept()).rejects.toMatchObject({ reason: 'unavailable' });
    fixture.store.state = 'up';
    fixture.clock.advance(CLAIM_MS);
    expect(await sweep(fixture.services)).toMatchObject({ published: 1 });
    expect(received).toHaveLength(1);
  });

  test('a delivery that was published but not marked is acknowledged, and delivered again under the same id', async () => {
    fixture.local.subscribe('cut', async () => {
      fixture.store.state = 'down';
    });
    const receipt = await accept();
    expect(receipt).toMatchObject({ status: 'accepted', duplicate: false });
    fixture.store.state = 'up';
    fixture.clock.advance(CLAIM_MS);
    expect(await sweep(fixture.services)).toMatchObject({ published: 1 });
    expect(received.map((event) => event.id)).toEqual([receipt.event_id, receipt.event_id]);
  });
});

describe('the sweeper', () => {
  test('the sweeper publishes the events of a service in the order of their arrival', async () => {
    fixture.wire.up = false;
    for (let n = 0; n < 30; n++) {
      await accept({ event: 'step', data: { service: `s${n % 3}`, n } });
      fixture.clock.advance(1);
    }
    fixture.wire.up = true;
    fixture.clock.advance(CLAIM_MS);
    expect(await sweep(fixture.services)).toMatchObject({ published: 30 });
    for (const service of ['s0', 's1', 's2']) {
      const order = received
        .filter((event) => event.orderingKey === service)
        .map((event) => JSON.parse(event.body).data.n);
      expect(order).toEqual(order.toSorted((a, b) => a - b));
    }
  });

  test('several sweepers at the same time publish everything once', async () => {
    fixture.wire.up = false;
    for (let n = 0; n < 120; n++) await accept({ event: 'step', data: { n } });
    fixture.wire.up = true;
    fixture.clock.advance(CLAIM_MS);
    const results = await Promise.all([1, 2, 3].map(() => sweep(fixture.services)));
    expect(results.reduce((sum, { published }) => sum + published, 0)).toBe(120);
    expect(received).toHaveLength(120);
  });

  test('the sweeper stops after three events that the bus refuses, and keeps all events', async () => {
    fixture.wire.up = false;
    for (let n = 0; n < 20; n++) await accept({ event: 'step', data: { service: `s${n}` } });
    fixture.clock.advance(CLAIM_MS);
    const { failed, published } = await sweep(fixture.services);
    expect(published).toBe(0);
    // Eight keys are under way at the same time when the third refusal comes.
    expect(failed).toBeLessThanOrEqual(10);
    fixture.wire.up = true;
    fixture.clock.advance(5 * 60_000);
    expect(await sweep(fixture.services)).toMatchObject({ published: 20 });
  });

  test('the sweeper runs at an interval until it is stopped', async () => {
    fixture.wire.up = false;
    await accept();
    fixture.wire.up = true;
    fixture.clock.advance(CLAIM_MS);
    const delivered = new Promise((resolve) => fixture.local.subscribe('once', async (event) => resolve(event.id)));
    const stop = startSweeper(fixture.services, 5);
    await delivered;
    await stop();
    expect(received).toHaveLength(1);
  });
});

describe('reading an event', () => {
  const now = Date.UTC(2026, 0, 1);
  const read = (body: unknown, fields = {}) => toEvent(deliveryOf(body, fields), now);

  test.each([
    ['its own shape', { event: 'a', data: {} }, {}, 'a'],
    ['Standard Webhooks', { type: 'user.created', timestamp: '2025-01-01T00:00:00Z', data: {} }, {}, 'user.created'],
    ['GitHub', { action: 'opened' }, { eventHeader: 'issues' }, 'issues'],
    [
      'a GitHub payload with an `event` of its own',
      { event: 'push' },
      { eventHeader: 'deployment_protection_rule' },
      'deployment_protection_rule',
    ],
    ['its own shape beside the header', { event: 'a', data: {} }, { eventHeader: 'push' }, 'a'],
    ['an `event` that is no name', { event: 5, type: 'b' }, {}, 'b'],
  ])('the name of an event is taken from %s', (_, body, fields, type) => {
    expect(read(body, fields).type).toBe(type);
  });

  test.each([
    [[]],
    ['"text"'],
    ['7'],
    ['null'],
    [{}],
    [{ event: '' }],
    [{ event: {} }],
    [{ event: 'a\nb' }],
    [{ event: 'x'.repeat(129) }],
  ])('the body %j, which names no event, is refused', (body) => {
    expect(() => read(body)).toThrow(expect.objectContaining({ reason: 'invalid_request' }));
  });

  test.each([['{'], ['{"event":"a"'], [Uint8Array.of(0x22, 0xff, 0x22)], ['']])(
    'the body %j, which is no JSON, is refused',
    (body) => {
      expect(() => read(body)).toThrow(expect.objectContaining({ reason: 'parse_error' }));
    },
  );

  test.each([
    [undefined],
    [12],
    ['yesterday'],
    ['2025-13-01T00:00:00Z'],
    ['2025-02-30T00:00:00Z'],
    ['2025-01-13T24:00:00Z'],
    ['2025-01-01'],
    ['2026-01-01T00:05:01Z'],
  ])('the time of arrival is used instead of %j', (timestamp) => {
    expect(read({ event: 'a', timestamp }).time).toBe('2026-01-01T00:00:00.000Z');
  });

  test.each([['2025-01-13T10:30:00Z'], ['2025-01-13T10:30:00.123456+02:00'], ['2026-01-01T00:04:59Z']])(
    'the time %j is kept as it is written',
    (timestamp) => {
      expect(read({ event: 'a', timestamp }).time).toBe(timestamp);
    },
  );

  test('one delivery of one sender has one id, and all others have different ids', () => {
    const part = fc.string({ maxLength: 20 });
    const delivery = fc.record({
      source: part,
      deliveryId: fc.option(part, { nil: undefined }),
      body: fc.uint8Array(),
    });
    fc.assert(
      fc.property(delivery, delivery, (a, b) => {
        const name = (d: typeof a) => JSON.stringify([d.source, d.deliveryId || null, d.deliveryId ? 0 : [...d.body]]);
        expect(eventId(a) === eventId(b)).toBe(name(a) === name(b));
        expect(eventId(a)).toMatch(/^[\w-]{47}$/);
      }),
    );
  });
});
