// Whole requests, limiter included, cost as many operations as terraform/COST.md states.
// test/unit/conversations/turns/billed-writes.test.ts counts the writes of a turn and the reads of its followers, and
// the bench busy-owner counts blocks.
import { afterAll, beforeAll, expect, it } from 'vitest';
import { systemClock } from '../../shared/clock.ts';
import { createEmbeddedStore } from '../../shared/store/embedded/embedded.ts';
import { COSTS, type Cost, priceOf } from '../support/documents/cost-table.ts';
import { type InProcessGateway, startInProcess } from '../support/fixtures/gateway/in-process.ts';
import { type Counted, countOperations } from '../support/fixtures/limiter/rate-limit.ts';
import { describeWith } from '../support/requirements.ts';

const CALLS = 60;
/** Prompts before those that count: a session of some length. */
const WARM_UP = 20;
/** Of the client's trace: the log line has it, too. */
const TRACE = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
/** Assumed: an entry that Cloud Run writes for a request, and the labels of an entry of the gateway. */
const REQUEST_ENTRY_KIB = 1;
const LABELS_KIB = 0.55;

let counted: Counted;
let gateway: InProcessGateway;

beforeAll(async () => {
  counted = countOperations(createEmbeddedStore({ path: ':memory:', clock: systemClock }));
  gateway = await startInProcess({ GATEWAY_API_KEY: 'dev-key', GATEWAY_LIMITS: `${CALLS}/day` }, { store: counted });
  for (let n = 0; n < WARM_UP; n++) await prompt();
  await gateway.services.conversations.ledger.flush();
});
afterAll(() => gateway?.close());

async function post(path: string, body: object, accept = 'application/json'): Promise<string> {
  const headers = { 'x-api-key': 'dev-key', 'content-type': 'application/json', accept, traceparent: TRACE };
  const response = await fetch(`${gateway.url}${path}`, { method: 'POST', headers, body: JSON.stringify(body) });
  return response.text();
}

const call = (method: string, params: object, accept?: string): Promise<string> =>
  post('/jsonrpc', { jsonrpc: '2.0', id: 1, method, params }, accept);

function prompt(accept?: string): Promise<string> {
  const params = { prompt: 'hello', model: 'offline/echo', session_id: 'sess_0123456789abcdef0123456789abcdef' };
  return call('conversation.prompt', params, accept);
}

/**
 * Documents read and written (a delete is a write here) by `request`, and its log. Without older messages that are
 * moved and the owner's total, which not every prompt writes.
 */
async function measure(request: () => Promise<string>) {
  counted.reset();
  const loggedBefore = gateway.logged().length;
  const answer = await request();
  await gateway.services.conversations.ledger.flush();
  const all = [...counted.byCollection].filter(([collection]) => !/storage|messages/.test(collection));
  return {
    answer,
    reads: all.reduce((sum, [, { reads }]) => sum + reads, 0),
    writes: all.reduce((sum, [, { writes }]) => sum + writes, 0),
    log: gateway.logged().slice(loggedBefore),
  };
}

/** `services`: those of Cloud Run that get a request for a call. */
function expectLogged(cost: Cost, log: string, services: number): void {
  const lines = log.trimEnd().split('\n').length;
  const kib = log.length / 1024 + lines * LABELS_KIB + services * REQUEST_ENTRY_KIB;
  expect(kib).toBeLessThanOrEqual(cost.logKib);
}

it('the price follows from counts and list prices', () => {
  // Requests, function, companion, writes, reads, deletes, logs, sent.
  const usd = 0.4 + (25.25 * 60) / 20 + (19 * 60) / 20 + 0.9 * 19 + 0.3 * 7 + 0.1 + 0.477 * 3.3 + 0.1144 * 372;
  expect(priceOf(COSTS.minute)).toBeCloseTo(usd, 1);
});

it('a call that reads costs as much as the table says', async () => {
  const { reads, writes, log } = await measure(() => call('conversation.status', { session_id: 'none' }));
  expect(COSTS.status).toMatchObject({ writes: { count: writes }, reads: { count: reads } });
  expectLogged(COSTS.status, log, 1);
});

it('a short prompt costs a write less than one of 5 seconds, and each piece 0.31 KiB to the client', async () => {
  const { answer, reads, writes, log } = await measure(() => prompt('text/event-stream'));
  // The short one is not watched for a cancel.
  expect({ writes, reads }).toEqual({ writes: COSTS.prompt.writes.count - 1, reads: COSTS.prompt.reads.count - 1 });
  expectLogged(COSTS.prompt, log, 1);
  const piece = answer.split('\n\n').find((event) => event.includes('"delta":"hello"'));
  expect((piece?.length ?? 0) / 1024).toBeCloseTo(0.31, 1);
  expect(COSTS.prompt.sentKib).toBe(0.31 * 20 * 5);
  expect(COSTS.minute.sentKib).toBe(0.31 * 20 * 60);
});

it('a webhook and its subscriber cost as much as the table says', async () => {
  const data = { service: 'web', region: 'us-central1', version: '1', status: 'ok' };
  const { reads, writes, log } = await measure(() => post('/webhook', { event: 'deployment.success', data }));
  const { webhook } = COSTS;
  // The deletion of the expired event comes later.
  expect({ reads, writes }).toEqual({
    reads: webhook.reads.count,
    writes: webhook.writes.count + webhook.deletes.count - 1,
  });
  expectLogged(webhook, log, webhook.requests);
});

describeWith('bubblewrap', 'a command', () => {
  it('a command costs as much as the table says', async () => {
    const { answer, reads, writes, log } = await measure(() => call('exec', { command: 'true' }));
    expect(answer).toContain('"exit_code":0');
    expect(COSTS.exec).toMatchObject({ writes: { count: writes }, reads: { count: reads } });
    expectLogged(COSTS.exec, log, 2);
  });
});

it('a refused call, after the first, costs no operation', async () => {
  for (let n = 0; n < CALLS; n++) await call('conversation.status', { session_id: 'none' });
  const { answer, reads, writes, log } = await measure(() => call('conversation.status', { session_id: 'none' }));
  expect(answer).toContain('rate_limited');
  expect(COSTS.refused).toMatchObject({ writes: { count: writes }, reads: { count: reads } });
  expectLogged(COSTS.refused, log, 1);
});
