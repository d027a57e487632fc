// A failed turn is reported by one error, one log line for the turn and one for the call, and the error states whether
// the prompt may be sent again.
import { afterEach, beforeEach, expect, it } from 'vitest';
import { createGateway } from '../../../../shared/gateway.ts';
import * as methods from '../../../../shared/methods/index.ts';
import { LOCAL_KEY } from '../../../../shared/protocol.ts';
import { createRegistry } from '../../../../shared/rpc/method.ts';
import {
  createFixture,
  type Fixture,
  failure,
  type Instance,
  MODEL,
} from '../../../support/fixtures/turns/conversations.ts';

let fixture: Fixture;
let a: Instance;
beforeEach(async () => {
  fixture = await createFixture();
  a = await fixture.instance();
});
afterEach(() => fixture.close());

function lines(): Record<string, unknown>[] {
  a.services.log.flush();
  return a.logged.flatMap((text) => text.trim().split('\n')).map((line) => JSON.parse(line));
}

it('a failure is reported in the error, in the line of the turn and in that of the call, with its turn', async () => {
  fixture.provider.behave(() => ({ status: 529, message: 'Overloaded, friend' }));
  const gateway = createGateway(a.services, createRegistry(Object.values(methods)));
  const body = { jsonrpc: '2.0', id: 1, method: 'conversation.prompt', params: { prompt: 'hello', session_id: 's' } };
  const reply = await gateway.handle({
    caller: await gateway.authenticate({ 'x-api-key': LOCAL_KEY }),
    body: Buffer.from(JSON.stringify(body)),
    requestId: 'req_9',
    transport: 'http',
    signal: new AbortController().signal,
  });
  const answer = JSON.stringify(reply);
  expect(answer.split('Overloaded, friend')).toHaveLength(2);
  const logged = lines();
  expect(logged.filter((line) => JSON.stringify(line).includes('Overloaded, friend'))).toHaveLength(2);
  const turn = logged.find(({ message }) => message === 'turn failed');
  const where = { provider: 'anthropic', model: MODEL, status: 529, session_id: 's', turn_id: expect.any(String) };
  expect(turn).toMatchObject({
    ...where,
    severity: 'WARNING',
    attempts: 3,
    error: 'Anthropic failed (529): Overloaded, friend',
  });
  const call = logged.find(({ message }) => message === 'call');
  const outcome = { severity: 'WARNING', outcome: 'upstream_error', error: turn?.error, request_id: 'req_9' };
  expect(call).toMatchObject({ ...where, ...outcome });
  expect(call?.turn_id).toBe(turn?.turn_id);
});

it('the error below a failure of the network is logged with the call, and not sent', async () => {
  const gateway = createGateway(a.services, createRegistry(Object.values(methods)));
  const params = { prompt: '[[cut first]]', session_id: 's' };
  const reply = await gateway.handle({
    caller: await gateway.authenticate({ 'x-api-key': LOCAL_KEY }),
    body: Buffer.from(JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'conversation.prompt', params })),
    requestId: 'req_9',
    transport: 'http',
    signal: new AbortController().signal,
  });
  const call = lines().find(({ message }) => message === 'call');
  expect(call).toMatchObject({ outcome: 'upstream_error', cause: expect.any(String) });
  expect(JSON.stringify(reply)).not.toContain(String(call?.cause));
});

it('the cached tokens and those of the reasoning are logged with the call', async () => {
  fixture.provider.behave(() => ({ text: 'yes', cachedTokens: 40, reasoningTokens: 30 }));
  const gateway = createGateway(a.services, createRegistry(Object.values(methods)));
  const params = { prompt: 'word '.repeat(40), session_id: 's' };
  await gateway.handle({
    caller: await gateway.authenticate({ 'x-api-key': LOCAL_KEY }),
    body: Buffer.from(JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'conversation.prompt', params })),
    requestId: 'req_9',
    transport: 'http',
    signal: new AbortController().signal,
  });
  const call = lines().find(({ message }) => message === 'call');
  expect(call).toMatchObject({ input_tokens: 50, cached_input_tokens: 40, output_tokens: 31, reasoning_tokens: 30 });
});

it('a failure after the prompt was sent is retryable only with an idempotency key', async () => {
  const cut = '[[chunks 4]] [[cut]]';
  expect(await failure(a.prompt(cut))).toMatchObject({
    reason: 'upstream_error',
    retryable: false,
    data: { sent: true },
  });
  const keyed = await failure(a.prompt(cut, { idempotency_key: 'k' }));
  expect(keyed).toMatchObject({ reason: 'upstream_error', retryable: true, data: { sent: true } });
  const b = await fixture.instance({ GATEWAY_TURN_TIMEOUT_MS: '200' });
  const late = await failure(b.prompt('[[hang]]'));
  expect(late).toMatchObject({
    reason: 'upstream_timeout',
    retryable: false,
    message: 'The turn did not end within 0.2 s',
  });
  expect(await failure(a.prompt('[[status 503]]'))).toMatchObject({ retryable: true });
});

it('a turn waits at most 10 s for a provider when its caller has no stream', async () => {
  fixture.provider.behave(() => ({ status: 429, headers: { 'retry-after': '11' } }));
  const before = fixture.provider.calls;
  expect(await failure(a.prompt('hello'))).toMatchObject({ retryable: true, retryAfterMs: 11_000 });
  expect(fixture.provider.calls - before).toBe(1);
});
