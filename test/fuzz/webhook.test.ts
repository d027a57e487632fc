// Whatever is sent to /webhook is accepted, or refused as the sender's mistake. What was accepted can be listed and
// subscribed to.
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createFuzzFixture, type FuzzFixture } from '../support/fixtures/fuzz/gateway.ts';
import { isRefused, naughtyString, naughtyValue, toText } from '../support/fixtures/fuzz/literals.ts';
import { memberOf, openHttp, type Transport } from '../support/fixtures/fuzz/transports.ts';

const SEED = Number(process.env.FUZZ_SEED ?? 20_261_113);
const RUNS = Math.ceil(Number(process.env.FUZZ_CASES ?? 4_000) / 20);
const TIMEOUT_MS = 120_000;

let fixture: FuzzFixture;
let transport: Transport;
beforeAll(async () => {
  fixture = await createFuzzFixture();
  transport = openHttp(fixture.gateway.url, 'dev-key', 'http');
});
afterAll(async () => {
  transport.close();
  await fixture.close();
});

const odd = fc.oneof(naughtyString, naughtyValue);
const body = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record(
      {
        event: fc.oneof(fc.constantFrom('deployment.success', 'deployment.failure', 'a'), odd),
        timestamp: fc.oneof(
          fc.constantFrom('2025-01-13T10:30:00Z', '0000-01-01T00:00:00Z', '9999-12-31T23:59:60Z'),
          odd,
        ),
        data: fc.oneof(fc.record({ service: odd, region: odd, version: odd, status: odd }, { requiredKeys: [] }), odd),
        type: odd,
      },
      { requiredKeys: [] },
    ),
  },
  { weight: 1, arbitrary: odd },
);
const headers = fc.oneof(
  { weight: 3, arbitrary: fc.constant({}) },
  {
    weight: 1,
    arbitrary: fc.record(
      {
        'x-github-event': fc.constantFrom('push', '', 'x'.repeat(5_000), '\u00ff'),
        'x-github-delivery': fc.constantFrom('1', '', '../..', 'x'.repeat(5_000)),
        'webhook-id': fc.constantFrom('1', 'msg_1', '\u00ff'),
      },
      { requiredKeys: [] },
    ),
  },
);

/** All pages of a list. */
async function list(method: string, member: string, cursor?: unknown): Promise<unknown[]> {
  const call = { jsonrpc: '2.0', method, params: { after: cursor, limit: 100 }, id: 1 };
  const { answers } = await transport.send(Buffer.from(JSON.stringify(call)));
  expect(answers).toMatchObject([{ result: { [member]: expect.any(Array) } }]);
  const result = memberOf(answers[0], 'result');
  const page = memberOf(result, member);
  const next = memberOf(result, 'next_cursor');
  return [...(Array.isArray(page) ? page : []), ...(next === undefined ? [] : await list(method, member, next))];
}

it(
  `the webhook answers ${RUNS} fuzzed deliveries with 200 or a 4xx in JSON, and lists what it accepted`,
  async () => {
    const accepted = new Set<unknown>();
    const property = fc.asyncProperty(body, headers, async (value, extra) => {
      const response = await fetch(`${fixture.gateway.url}/webhook`, {
        method: 'POST',
        headers: { 'x-api-key': 'dev-key', 'content-type': 'application/json', ...extra },
        body: toText(value),
      });
      expect(response.headers.get('content-type')).toMatch(/^application\/json/);
      const answer: unknown = await response.json();
      if (response.status === 200) accepted.add(memberOf(answer, 'event_id'));
      else {
        expect(response.status).toBe(400);
        const data = { reason: expect.any(String), request_id: expect.stringMatching(/^req_/) };
        expect(answer).toMatchObject({ error: { data } });
      }
      if (isRefused(value, true)) expect(response.status).toBe(400);
    });
    await fc.assert(property, { seed: SEED, numRuns: RUNS, endOnFailure: process.env.CI === 'true' });
    const events = await list('events.list', 'events');
    expect(new Set(events.map((event) => memberOf(event, 'event_id')))).toEqual(accepted);
    expect(accepted.size).toBeGreaterThan(RUNS / 10);
    await list('deployment.list', 'deployments');
    expect(fixture.gateway.logged()).not.toMatch(/"severity":"(ERROR|CRITICAL)"/);
  },
  TIMEOUT_MS,
);
