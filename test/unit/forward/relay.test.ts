// Prompts of the jsonrpc function that the companion answers have the same answer as without a companion, and are
// counted once, by the companion. Two real servers run on one store.
import { once } from 'node:events';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ModelProvider, startModelProvider } from '../../support/fakes/model-provider/model-provider.ts';
import { follow, rpc, textOf } from '../../support/fixtures/clients/turn-client.ts';
import { type CloudFixture, createCloudFixture } from '../../support/fixtures/gateway/forward.ts';
import { type InProcessGateway, startInProcess } from '../../support/fixtures/gateway/in-process.ts';

const ORIGIN = 'https://app.example';
const KEYS = JSON.stringify({
  keys: [
    { id: 'wide', key: 'dev-key', limits: '100000/minute' },
    { id: 'narrow', key: 'narrow', scopes: ['webhook'], limits: '100000/minute' },
    ...['two', 'three', 'four'].map((key) => ({ id: key, key, limits: '2/day' })),
  ],
});

let provider: ModelProvider;
let cloud: CloudFixture;
let alone: InProcessGateway;

beforeAll(async () => {
  provider = await startModelProvider();
  const env = {
    ANTHROPIC_API_KEY: 'test',
    ANTHROPIC_BASE_URL: provider.url,
    MODEL: 'anthropic/claude-sonnet-4-5',
    GATEWAY_KEYS: KEYS,
    ALLOWED_ORIGINS: ORIGIN,
  };
  [cloud, alone] = await Promise.all([createCloudFixture(env, 'companion'), startInProcess(env)]);
});
afterAll(async () => {
  await Promise.all([cloud.close(), alone.close()]);
  await provider.close();
});

interface Refused {
  readonly error: { readonly data: { readonly reset: number; readonly retry_after_ms: number } };
}

const promptBody = (params: object, id: unknown = 1): object => ({
  jsonrpc: '2.0',
  method: 'conversation.prompt',
  params,
  ...(id !== undefined && { id }),
});

function post(url: string, body: unknown, headers: Readonly<Record<string, string>> = {}): Promise<Response> {
  return fetch(`${url}/jsonrpc`, {
    method: 'POST',
    headers: { 'X-API-Key': 'dev-key', ...headers },
    body: JSON.stringify(body),
  });
}

/** What was forwarded while `work` ran. */
async function forwardedBy<T>(work: () => Promise<T>): Promise<readonly [T, readonly string[]]> {
  const before = cloud.forwarded().length;
  const result = await work();
  return [result, cloud.forwarded().slice(before)];
}

describe('a relayed prompt', () => {
  it('a relayed prompt is sent unchanged, counted once, and answered with the usual headers', async () => {
    const send = () => post(cloud.url, promptBody({ prompt: 'hi' }), { 'X-Request-Id': 'mine-1', Origin: ORIGIN });
    const [first, forwarded] = await forwardedBy(send);
    expect(forwarded).toEqual(['/exchange']);
    expect([first.status, await first.json()]).toMatchObject([200, { id: 1, result: { content: 'You said: hi' } }]);
    expect(Object.fromEntries(first.headers)).toMatchObject({
      'content-type': 'application/json; charset=utf-8',
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      'x-request-id': 'mine-1',
      'x-ratelimit-limit': '100000',
      'x-gateway-overhead-ms': expect.stringMatching(/^[\d.]+$/),
      'access-control-allow-origin': ORIGIN,
    });
    expect(first.headers.has('x-gateway-report')).toBe(false);
    const second = await send();
    const [before, after] = [first, second].map(({ headers }) => Number(headers.get('x-ratelimit-remaining')));
    expect(Number(before) - Number(after)).toBe(1);
  });

  it.each<readonly [string, unknown, Record<string, string>]>([
    ['params that are not valid', promptBody({ prompt: 5, on_busy: 'panic' }, 'x'), {}],
    ['params by position', promptBody([], 'x'), {}],
    ['params that lose digits', promptBody({ prompt: 2 ** 60 }, 'x'), {}],
    ['a missing scope', promptBody({ prompt: 'hi' }, 'x'), { 'X-API-Key': 'narrow' }],
    ['a missing scope, streamed', promptBody({ prompt: 'hi' }), { 'X-API-Key': 'narrow', Accept: 'text/event-stream' }],
    ['an idempotency key that is too long', promptBody({ prompt: 'hi' }), { 'Idempotency-Key': 'k'.repeat(300) }],
    [
      'a Last-Event-ID that is none',
      promptBody({ prompt: 'hi' }),
      { 'Last-Event-ID': '?', Accept: 'text/event-stream' },
    ],
    ['a model without credentials', promptBody({ prompt: 'hi', model: 'openai/gpt-5' }), {}],
    ['a prompt in binary that is none', { ...promptBody({ stream_id: 's', data: '!' }), method: 'proto' }, {}],
    ['a notification', { jsonrpc: '2.0', method: 'conversation.prompt', params: { prompt: 5 } }, {}],
  ])(
    'a relayed prompt is refused with the same status and bytes as without a companion: %s',
    async (_name, body, headers) => {
      const [one, other] = await Promise.all(
        [cloud, alone].map(async ({ url }) => {
          const answer = await post(url, body, { ...headers, 'X-Request-Id': 'same' });
          return { status: answer.status, type: answer.headers.get('content-type'), text: await answer.text() };
        }),
      );
      expect(one).toEqual(other);
    },
  );

  it('a relayed prompt is refused where its limit is used up, and the function remembers the refusal', async () => {
    const send = (key: string, accept = '*/*') =>
      post(cloud.url, promptBody({ prompt: 'hi' }), { 'X-API-Key': key, Accept: accept });
    const [answers, forwarded] = await forwardedBy(async () => {
      const found: Response[] = [];
      for (let n = 0; n < 4; n++) found.push(await send('two', n === 3 ? 'text/event-stream' : '*/*'));
      return found;
    });
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 429, 429]);
    expect(forwarded).toHaveLength(3);
    for (const refused of answers.slice(2)) {
      const { error } = (await refused.json()) as Refused;
      expect(error).toMatchObject({ code: 429, data: { reason: 'rate_limited', limit: 2, remaining: 0 } });
      expect(refused.headers.get('x-ratelimit-remaining')).toBe('0');
      expect(refused.headers.get('x-ratelimit-reset')).toBe(String(error.data.reset));
      expect(refused.headers.get('retry-after')).toBe(String(Math.ceil(error.data.retry_after_ms / 1_000)));
    }
    // The same count as for calls that the function counts itself.
    expect((await send('two')).status).toBe(429);
    const status = { jsonrpc: '2.0', method: 'conversation.list', id: 1 };
    expect((await post(cloud.url, status, { 'X-API-Key': 'two' })).status).toBe(429);
  });

  it('a relayed prompt counts with the calls that the function counts: no more than the limit in all', async () => {
    const status = { jsonrpc: '2.0', method: 'conversation.list', id: 1 };
    const statuses = await Promise.all(
      Array.from({ length: 12 }, async (_, n) => {
        const body = n % 2 === 0 ? promptBody({ prompt: 'hi' }) : status;
        return (await post(cloud.url, body, { 'X-API-Key': 'three' })).status;
      }),
    );
    expect(statuses.filter((code) => code === 200)).toHaveLength(2);
    expect(statuses.filter((code) => code === 429)).toHaveLength(10);
  });

  it('a relayed prompt in a batch is counted in the function, and its call is forwarded', async () => {
    const batch = [promptBody({ prompt: 'one' }), promptBody({ prompt: 'two' }, 2)];
    const [answer, forwarded] = await forwardedBy(() => post(cloud.url, batch, { 'X-API-Key': 'four' }));
    expect(forwarded).toEqual(['/jsonrpc', '/jsonrpc']);
    expect(await answer.json()).toMatchObject([{ result: { content: 'You said: one' } }, { id: 2, result: {} }]);
    expect(answer.headers.get('x-ratelimit-remaining')).toBe('0');
  });

  it('a relayed prompt carries the trace of its caller to the companion', async () => {
    const traceparent = `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`;
    const arrived = cloud.next('companion');
    await post(cloud.url, promptBody({ prompt: 'hi' }), { traceparent });
    expect((await arrived).req.headers.traceparent).toBe(traceparent);
  });

  it('a method other than a prompt runs in the function', async () => {
    const [answer, forwarded] = await forwardedBy(() => rpc(cloud.url, 'conversation.status', { session_id: 'none' }));
    expect(answer.result).toMatchObject({ status: 'not_found' });
    expect(forwarded).toEqual([]);
  });

  it('a relayed prompt streams its events with their ids, and a repeated request continues after the last one', async () => {
    const params = { prompt: '[[chunks 20]]', session_id: 'streamed' };
    const stream = follow(cloud.url, 'conversation.prompt', params);
    expect((await stream.answer)?.result).toMatchObject({ type: 'ai_response', session_id: 'streamed' });
    expect(stream.events.map(({ seq }) => seq)).toEqual(stream.events.map((_, index) => index + 1));
    const middle = stream.events[9];
    const before = provider.calls;
    const rest = follow(cloud.url, 'conversation.prompt', params, { 'Last-Event-ID': middle?.id ?? '' });
    expect(textOf([...stream.events.slice(0, 10), ...(await rest.answer.then(() => rest.events))])).toBe(
      textOf(stream.events),
    );
    expect(provider.calls).toBe(before);
  });

  it('a relayed prompt runs once for an idempotency key, and is cancelled by the function', async () => {
    const headers = { 'Idempotency-Key': 'once' };
    const before = provider.calls;
    const answers = [await post(cloud.url, promptBody({ prompt: 'once' }), headers)];
    answers.push(await post(cloud.url, promptBody({ prompt: 'once' }), headers));
    const [first, second] = await Promise.all(answers.map((answer) => answer.json()));
    expect(second).toEqual(first);
    expect(provider.calls - before).toBe(1);

    const requested = provider.next();
    const running = follow(cloud.url, 'conversation.prompt', { prompt: '[[hang]]', session_id: 'cancelled' });
    await requested;
    await rpc(cloud.url, 'conversation.cancel', { session_id: 'cancelled' });
    expect((await running.answer)?.error).toMatchObject({ code: 499 });
  });

  it('a relayed prompt of a busy session with on_busy queue runs when the first one has ended', async () => {
    const gate = Promise.withResolvers<void>();
    provider.behave(() => ({ chunks: ['a', 'b'], gate: (index) => (index === 2 ? gate.promise : Promise.resolve()) }));
    const first = follow(cloud.url, 'conversation.prompt', { prompt: 'one', session_id: 'queued' });
    await first.until(2);
    const arrived = cloud.next('companion');
    const second = rpc(cloud.url, 'conversation.prompt', { prompt: 'two', session_id: 'queued', on_busy: 'queue' });
    await arrived;
    gate.resolve();
    expect([await first.answer, await second]).toMatchObject([{ result: {} }, { result: { content: 'ab' } }]);
    provider.behave();
    const { result } = await rpc(cloud.url, 'conversation.history', { session_id: 'queued' });
    expect(result).toMatchObject({ messages: ['one', 'ab', 'two', 'ab'].map((content) => ({ content })) });
  });

  it('a relayed prompt of a busy session with on_busy interrupt ends the first one, whose client receives that', async () => {
    const requested = provider.next();
    const first = follow(cloud.url, 'conversation.prompt', { prompt: '[[hang]]', session_id: 'interrupted' });
    await requested;
    const params = { prompt: 'two', session_id: 'interrupted', on_busy: 'interrupt' };
    expect(await rpc(cloud.url, 'conversation.prompt', params)).toMatchObject({ result: { content: 'You said: two' } });
    expect((await first.answer)?.error).toMatchObject({ code: 499 });
    expect(first.events.at(-1)?.event).toHaveProperty('TurnAborted');
  });

  it('a relayed prompt continues when its client has left, and its request stays open until the turn has ended', async () => {
    const gate = Promise.withResolvers<void>();
    provider.behave(() => ({ chunks: ['a', 'b'], gate: (index) => (index === 2 ? gate.promise : Promise.resolve()) }));
    const arrived = [cloud.next('function'), cloud.next('companion')] as const;
    const stream = follow(cloud.url, 'conversation.prompt', { prompt: 'leave', session_id: 'left' });
    await stream.until(2);
    const [answer, exchange] = await Promise.all(arrived);
    const left = once(answer, 'close');
    stream.abort();
    await left;
    expect(exchange.destroyed).toBe(false);
    const closed = once(exchange, 'close');
    gate.resolve();
    await closed;
    expect(exchange.writableFinished).toBe(true);
    provider.behave();
    const { result } = await rpc(cloud.url, 'conversation.status', { session_id: 'left' });
    expect(result).toMatchObject({ turn: { status: 'completed' } });
  });
});
