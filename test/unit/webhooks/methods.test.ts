// `events.list` and `deployment.list` return the documented fields, in pages that have each entry once.
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { z } from 'zod';
import { createGateway } from '../../../shared/gateway.ts';
import { deploymentList } from '../../../shared/methods/deployment.list.ts';
import { eventsList } from '../../../shared/methods/events.list.ts';
import { createRegistry } from '../../../shared/rpc/method.ts';
import { acceptDelivery } from '../../../shared/webhooks/accept.ts';
import { applyDeploymentEvent } from '../../../shared/webhooks/deployments.ts';
import { createFixture, deliveryOf, type Fixture, REFERENCE_EVENT } from '../../support/fixtures/webhooks/webhooks.ts';

let fixture: Fixture;
beforeEach(async () => {
  fixture = await createFixture({ GATEWAY_LIMITS: '100000/minute' });
  fixture.local.subscribe('deployments', (event) => applyDeploymentEvent(fixture.services, event));
});
afterEach(() => fixture.close());

const accept = (body: unknown) => acceptDelivery(fixture.services, deliveryOf(body));

interface Answer {
  readonly result?: unknown;
  readonly error?: { readonly code: number; readonly data: { readonly reason: string } };
}

/** Through the whole dispatcher, so that schemas, scopes and results are judged as for any caller. */
async function call(method: string, params: object = {}): Promise<Answer> {
  const gateway = createGateway(fixture.services, createRegistry([eventsList, deploymentList]));
  const caller = await gateway.authenticate({ 'x-api-key': 'dev-key' });
  const body = Buffer.from(JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }));
  const signal = new AbortController().signal;
  const reply = await gateway.handle({ caller, body, requestId: 'r', transport: 'http', signal });
  return JSON.parse(reply.text ?? '');
}

async function events(params: object = {}): Promise<z.output<typeof eventsList.result>> {
  return eventsList.result.parse((await call('events.list', params)).result);
}

describe('events.list', () => {
  test('events.list returns the documented event', async () => {
    const receipt = await accept(REFERENCE_EVENT);
    expect(await events()).toEqual({
      events: [
        {
          event_id: receipt.event_id,
          event: 'deployment.success',
          timestamp: '2025-01-13T10:30:00Z',
          received_at: new Date(fixture.clock.now()).toISOString(),
          source: '/webhook/key/default',
          data: REFERENCE_EVENT.data,
          status: 'sent',
          message_id: expect.stringMatching(/^local-/),
        },
      ],
    });
  });

  test('events.list shows the whole body of an event without data, and what is still queued', async () => {
    fixture.wire.up = false;
    await accept({ type: 'ping', zen: 'x' });
    expect((await events()).events).toMatchObject([
      { data: { type: 'ping', zen: 'x' }, status: 'recorded', message_id: null },
    ]);
  });

  test('events.list keeps every digit: published byte for byte, and listed as text where JSON would round', async () => {
    const published: string[] = [];
    fixture.local.subscribe('copy', async ({ body }) => void published.push(body));
    const data = '{"id":9007199254740993,"rate":1.0000000000000000001,"text":"1e400"}';
    const body = `{ "event": "big", "run": 12345678901234567890, "data": ${data} }`;
    const { status } = await acceptDelivery(fixture.services, { ...deliveryOf({}), body: Buffer.from(body) });
    expect(status).toBe('accepted');
    expect((await events()).events).toMatchObject([{ event: 'big', data }]);
    expect(published).toEqual([body]);
  });

  test.each(['newest', 'oldest'] as const)(
    'the pages of events.list contain each event once, %s first',
    async (order) => {
      for (let n = 0; n < 57; n++) {
        await accept({ event: n % 2 ? 'odd' : 'even', data: n });
        if (n % 5 === 0) fixture.clock.advance(1);
      }
      for (const [event, count] of [
        [undefined, 57],
        ['odd', 28],
      ] as const) {
        const seen: unknown[] = [];
        const times: string[] = [];
        let after: string | undefined;
        do {
          const page = await events({ order, limit: 10, event, after });
          expect(page.events.length).toBeLessThanOrEqual(10);
          seen.push(...page.events.map(({ data }) => data));
          times.push(...page.events.map(({ received_at }) => received_at));
          after = page.next_cursor;
        } while (after !== undefined);
        expect(new Set(seen).size).toBe(count);
        expect(seen).toHaveLength(count);
        expect(times).toEqual(order === 'oldest' ? times.toSorted() : times.toSorted().toReversed());
      }
    },
  );

  test('events.list ends a page early rather than answering with megabytes', async () => {
    for (let n = 0; n < 5; n++) await accept({ event: 'big', data: 'x'.repeat(300 << 10), n });
    const first = await events({ limit: 100 });
    expect(first.events).toHaveLength(3);
    let count = 3;
    for (let after = first.next_cursor; after !== undefined; ) {
      const page = await events({ limit: 100, after });
      count += page.events.length;
      after = page.next_cursor;
    }
    expect(count).toBe(5);
  });

  test.each([
    ['x'],
    [Buffer.from('{}').toString('base64url')],
    [Buffer.from('["newest","1","a"]').toString('base64url')],
    [Buffer.from('["oldest",1,"a"]').toString('base64url')],
    [Buffer.from('["service","a","b"]').toString('base64url')],
  ])('events.list refuses %s as a cursor', async (after) => {
    expect((await call('events.list', { after })).error).toMatchObject({
      code: -32602,
      data: { reason: 'invalid_params' },
    });
  });
});

describe('deployment.list', () => {
  test('deployment.list returns the state after the documented event', async () => {
    const receipt = await accept(REFERENCE_EVENT);
    expect((await call('deployment.list')).result).toEqual({
      deployments: [
        {
          ...REFERENCE_EVENT.data,
          event: 'deployment.success',
          event_id: receipt.event_id,
          updated_at: '2025-01-13T10:30:00Z',
        },
      ],
    });
  });

  test('the pages of deployment.list contain each deployment once', async () => {
    for (let n = 0; n < 25; n++) {
      await accept({ event: 'deployment.success', data: { service: `s${n % 7}`, region: `r${n}` } });
    }
    const seen: string[] = [];
    let after: string | undefined;
    do {
      const page = deploymentList.result.parse((await call('deployment.list', { limit: 4, after })).result);
      seen.push(...page.deployments.map(({ service, region }) => `${service}/${region}`));
      after = page.next_cursor;
    } while (after !== undefined);
    expect(seen).toHaveLength(25);
    expect(new Set(seen).size).toBe(25);
  });
});
