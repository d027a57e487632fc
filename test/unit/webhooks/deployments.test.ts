// `deployment.list` has the newest state of each service and region, whatever the order and number of deliveries, and
// the push endpoint acknowledges only what is stored.
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { randomIds } from '../../../shared/clock.ts';
import { RpcError } from '../../../shared/errors.ts';
import { createEmbeddedStore } from '../../../shared/store/embedded/embedded.ts';
import { acceptDelivery } from '../../../shared/webhooks/accept.ts';
import { toMessage } from '../../../shared/webhooks/bus/cloud-event.ts';
import { applyDeploymentEvent } from '../../../shared/webhooks/deployments.ts';
import type { GatewayEvent } from '../../../shared/webhooks/event.ts';
import { listDeployments } from '../../../shared/webhooks/feed/list.ts';
import { createFixture, deliveryOf, type Fixture, REFERENCE_EVENT } from '../../support/fixtures/webhooks/webhooks.ts';

/** A clock that has been steady for this long is trusted, and expired sessions are erased. */
const STEADY_MS = 600_000;

let fixture: Fixture;
beforeEach(async () => {
  fixture = await createFixture();
});
afterEach(() => fixture.close());

function eventOf(
  fields: { id?: string; time?: string; type?: string; data?: unknown; recordedAtMs?: number } = {},
): GatewayEvent {
  const {
    id = 'evt_1',
    recordedAtMs = 0,
    time = '2025-01-13T10:30:00Z',
    type = 'deployment.success',
    data = REFERENCE_EVENT.data,
  } = fields;
  const body = JSON.stringify({ event: type, timestamp: time, data });
  return { id, type, time, recordedAtMs, source: '/webhook/key/default', body, orderingKey: 'wrapper' };
}

const apply = (event: GatewayEvent) => applyDeploymentEvent(fixture.services, event);
const all = async () => (await listDeployments(fixture.store, { limit: 1000 })).items;

describe('the latest state', () => {
  test('the latest state is that of the documented event', async () => {
    expect(await apply(eventOf())).toBe('applied');
    expect(await all()).toEqual([
      {
        service: 'wrapper',
        region: 'us-central1',
        version: '486a13c9',
        status: 'healthy',
        event: 'deployment.success',
        event_id: 'evt_1',
        recorded_at_ms: 0,
        updated_at: '2025-01-13T10:30:00Z',
        updated_at_ms: Date.UTC(2025, 0, 13, 10, 30),
        changes: 1,
      },
    ]);
  });

  test('the latest state is changed once by an event, however often and concurrently it is delivered', async () => {
    const outcomes = await Promise.all(Array.from({ length: 20 }, () => apply(eventOf())));
    expect(outcomes.filter((outcome) => outcome === 'applied')).toHaveLength(1);
    expect(await all()).toMatchObject([{ changes: 1 }]);
  });

  test('the latest state is never overwritten by an older event', async () => {
    await apply(eventOf({ id: 'evt_new', time: '2025-01-13T12:30:00+01:00' }));
    expect(await apply(eventOf({ id: 'evt_old', time: '2025-01-13T11:29:59Z' }))).toBe('stale');
    expect(await all()).toMatchObject([{ event_id: 'evt_new' }]);
  });

  test('the latest state is that of a right clock, whatever a clock 400 days ahead wrote before or writes later', async () => {
    const far = (id: string, days: number) =>
      eventOf({ id, time: new Date(fixture.clock.now() + days * 86_400_000).toISOString() });
    expect(await apply(far('evt_far', 400))).toBe('applied');
    expect(await apply(far('evt_right', 0))).toBe('applied');
    expect(await apply(far('evt_far', 400))).toBe('stale');
    expect(await apply(far('evt_before', -1))).toBe('stale');
    expect(await all()).toMatchObject([{ event_id: 'evt_right' }]);
  });

  test('the last one to arrive of states with the same time is the latest, in any order of delivery', async () => {
    const [first, second] = [eventOf({ id: 'z', recordedAtMs: 1 }), eventOf({ id: 'a', recordedAtMs: 2 })];
    expect(await apply(second)).toBe('applied');
    expect(await apply(first)).toBe('stale');
    expect(await all()).toMatchObject([{ event_id: 'a' }]);
  });

  test.each([
    [
      { version: 3, status: true },
      { version: '3', status: 'true', region: 'global' },
    ],
    [
      { version: null, status: null, region: null },
      { version: null, status: 'success', region: 'global' },
    ],
    [
      { version: {}, status: [], region: '' },
      { version: null, status: 'success', region: 'global' },
    ],
    [
      { version: 'v'.repeat(300), region: 'r'.repeat(70) },
      { version: 'v'.repeat(256), region: 'r'.repeat(64) },
    ],
  ])('the latest state is shown as far as it can be of %j', async (data, shown) => {
    expect(await apply(eventOf({ data: { service: 'wrapper', ...data } }))).toBe('applied');
    expect(await all()).toMatchObject([shown]);
  });

  test('the latest state has every digit of a number that JavaScript would round', async () => {
    const body = '{"data":{"service":"wrapper","version":9007199254740993,"region":1e400}}';
    expect(await apply({ ...eventOf(), body })).toBe('applied');
    expect(await all()).toMatchObject([{ version: '9007199254740993', region: '1e400' }]);
    expect(await apply({ ...eventOf(), body: '{"data":{"service":9007199254740993}}' })).toBe('ignored');
  });

  test('the latest state is kept per service and region', async () => {
    await apply(eventOf({ id: 'a', data: { service: 'one', region: 'r1' } }));
    await apply(eventOf({ id: 'b', data: { service: 'one', region: 'r2' } }));
    await apply(eventOf({ id: 'c', type: 'deployment.failed', data: { service: 'two' } }));
    expect((await all()).map((d) => [d.service, d.region, d.status])).toEqual(
      expect.arrayContaining([
        ['one', 'r1', 'success'],
        ['one', 'r2', 'success'],
        ['two', 'global', 'failed'],
      ]),
    );
  });

  test('the latest state is the same whatever the order of delivery and however many repetitions', async () => {
    const event = fc.record({ id: fc.constantFrom('a', 'b', 'c', 'd'), second: fc.nat(3), recordedAtMs: fc.nat(2) });
    const sequence = fc.uniqueArray(event, { selector: ({ id }) => id, minLength: 1 });
    await fc.assert(
      fc.asyncProperty(sequence, fc.infiniteStream(fc.nat()), async (events, picks) => {
        const store = createEmbeddedStore({ path: ':memory:', clock: fixture.clock });
        const times = events.map(({ id, second, recordedAtMs }) =>
          eventOf({ id, recordedAtMs, time: `2025-01-13T10:30:0${second}Z` }),
        );
        const order = [...times, ...times].toSorted(() => ((picks.next().value ?? 0) % 3) - 1);
        for (const each of order) await applyDeploymentEvent({ ...fixture.services, store }, each);
        const rank = ({ time, recordedAtMs, id }: GatewayEvent) => time + recordedAtMs + id;
        const newest = times.toSorted((a, b) => (rank(a) < rank(b) ? 1 : -1))[0];
        const [state] = (await listDeployments(store, { limit: 10 })).items;
        expect(state?.event_id).toBe(newest?.id);
        expect(state?.changes).toBeLessThanOrEqual(events.length);
        await store.close();
      }),
      { numRuns: 50 },
    );
  });

  test.each([
    ['another kind of event', { type: 'user.created' }],
    ['no data', { data: null }],
    ['no service', { data: { region: 'r' } }],
    ['a service that is no text', { data: { service: { a: 1 } } }],
    ['a service of unreasonable length', { data: { service: 'x'.repeat(129) } }],
  ])('an event with %s is ignored', async (_, fields) => {
    expect(await apply(eventOf(fields))).toBe('ignored');
    expect(await all()).toEqual([]);
  });
});

describe('POST /deployments', () => {
  const push = async (url: string, message: object, headers = {}) =>
    fetch(`${url}/deployments`, {
      method: 'POST',
      headers,
      body: JSON.stringify({ message: { messageId: '1', ...message }, subscription: 'projects/p/subscriptions/s' }),
    });
  const wrapped = (event: GatewayEvent) => {
    const { data, attributes, orderingKey } = toMessage(event);
    return { data: data.toString('base64'), attributes, orderingKey };
  };

  test('an event is acknowledged with 204, a repeated one too, and stored once', async () => {
    const url = await fixture.listen();
    for (let n = 0; n < 2; n++) expect((await push(url, wrapped(eventOf()))).status).toBe(204);
    expect(await all()).toMatchObject([{ event_id: 'evt_1', changes: 1 }]);
  });

  test('another delivery is requested with 503 while the store is down', async () => {
    const url = await fixture.listen();
    fixture.store.state = 'down';
    expect((await push(url, wrapped(eventOf()))).status).toBe(503);
    fixture.store.state = 'up';
    expect((await push(url, wrapped(eventOf()))).status).toBe(204);
    expect(await all()).toHaveLength(1);
  });

  test.each([
    ['no attributes', { data: 'e30=' }],
    ['data that is not base64', { ...wrapped(eventOf()), data: '%%%' }],
    ['a time that is none', { data: 'e30=', attributes: { ...toMessage(eventOf()).attributes, 'ce-time': 'now' } }],
    [
      'another specification',
      { data: 'e30=', attributes: { ...toMessage(eventOf()).attributes, 'ce-specversion': '2' } },
    ],
  ])('a message with %s is sent to the dead letters with 400', async (_, message) => {
    expect((await push(await fixture.listen(), message)).status).toBe(400);
    expect(await all()).toEqual([]);
  });

  test('an event of the largest size is accepted', async () => {
    const event = { ...eventOf(), body: JSON.stringify({ ...REFERENCE_EVENT, pad: 'x'.repeat(890 * 1024) }) };
    expect((await push(await fixture.listen(), wrapped(event))).status).toBe(204);
  });

  test('everything is refused by a function that is deployed without knowing whose tokens count', async () => {
    await fixture.close();
    fixture = await createFixture({ K_SERVICE: 'deployments', GATEWAY_API_KEY: randomIds.next('key') });
    expect((await push(await fixture.listen(), wrapped(eventOf()))).status).toBe(401);
    expect(await all()).toEqual([]);
  });
});

describe('POST /deployments/sweep', () => {
  const isBuilding = new RpcError('unavailable', { cause: new Error('That index is currently building.') });
  test.each([
    ['succeeds while the index of expired sessions is being built', isBuilding, 200],
    ['fails when the index is missing', new Error('The query requires an index.'), 500],
  ])('a sweep %s, and publishes queued events', async (_, error, status) => {
    fixture.wire.up = false;
    await acceptDelivery(fixture.services, deliveryOf(REFERENCE_EVENT));
    fixture.wire.up = true;
    fixture.clock.advance(STEADY_MS);
    const { query } = fixture.store;
    vi.spyOn(fixture.store, 'query').mockImplementation(async (sent, options) => {
      if (sent.collection === 'conversations') throw error;
      return query(sent, options);
    });
    const received: string[] = [];
    fixture.local.subscribe('test', async ({ type }) => void received.push(type));
    const response = await fetch(`${await fixture.listen()}/deployments/sweep`, { method: 'POST' });
    expect([response.status, received]).toEqual([status, ['deployment.success']]);
    if (status === 200) expect(await response.json()).toEqual({ published: 1, failed: 0, lost: 0, expired: 0 });
  });
});
