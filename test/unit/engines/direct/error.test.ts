// Every fault of a provider gives the caller the right error after the right number of calls, in every wire format.

import { createServer as createHttpServer, type Server } from 'node:http';
import { type AddressInfo, createServer } from 'node:net';
import { OAuth2Client } from 'google-auth-library';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { createDirectEngine } from '../../../../shared/engines/direct/direct.ts';
import { errorFields } from '../../../../shared/log.ts';
import { type ModelProvider, startModelProvider } from '../../../support/fakes/model-provider/model-provider.ts';
import {
  CASES,
  createTestEngine,
  failTurn,
  KEY,
  runTurn,
  textOf,
  toModelProviders,
} from '../../../support/fixtures/turns/engines.ts';

let provider: ModelProvider;
beforeAll(async () => {
  provider = await startModelProvider();
});
afterEach(() => provider.behave());
afterAll(() => provider.close());

/** Calls made while `work` runs. */
async function countCalls<T>(work: () => Promise<T>): Promise<{ result: T; calls: number }> {
  const before = provider.calls;
  const result = await work();
  return { result, calls: provider.calls - before };
}

describe.each(CASES)('$provider', ({ model, provider: name, label }) => {
  it.each([
    ['[[chunks 10]] [[cut]]', 'the socket cut in mid-answer', 5],
    ['[[cut first]]', 'the socket cut before the first token', 0],
    ['[[chunks 10]] [[early]]', 'a body that ends cleanly without the end marker', 5],
    ['[[early first]]', 'a body that ends cleanly before the first token', 0],
  ])(
    'the prompt %s, with %s, ends in an error, never an answer, and its call is not repeated',
    async (prompt, _, deltas) => {
      const { result, calls } = await countCalls(() => failTurn(createTestEngine(provider), { model, prompt }));
      expect(result.error).toMatchObject({
        reason: 'upstream_error',
        message: expect.stringMatching(
          new RegExp(`^${label} (ended its answer before it was complete|sent an empty answer)`),
        ),
        data: { provider: name },
        retryable: true,
      });
      expect(result.events).toHaveLength(deltas);
      expect(calls).toBe(1);
    },
  );

  it('an error event within a stream is reported, what came before it is kept, and the call is not repeated', async () => {
    const { result, calls } = await countCalls(() =>
      failTurn(createTestEngine(provider), { model, prompt: 'tell [[chunks 4]] [[error]]' }),
    );
    expect(result.error).toMatchObject({ reason: 'upstream_error', retryable: true, data: { provider: name } });
    expect(textOf(result.events)).toBe('0 ');
    expect(calls).toBe(1);
  });

  it.each(['first', 'middle'] as const)('an error event (%s) has the status of an error response', async (at) => {
    const errors: readonly [status: number, error: object][] = [
      [404, { reason: 'invalid_params', retryable: false }],
      [429, { reason: 'upstream_error', retryable: true }],
      [500, { reason: 'upstream_error', retryable: true }],
    ];
    for (const [errorStatus, expected] of errors) {
      provider.behave(() => ({
        chunks: ['a', 'b'],
        streamError: at,
        errorStatus,
        message: 'no such model, or busy',
      }));
      const { error } = await failTurn(createTestEngine(provider), { model });
      expect(error).toMatchObject({ ...expected, data: { provider: name, model, status: errorStatus } });
    }
  });

  it.each([408, 409, 425, 429, 500, 503, 529])(
    'a call is made at most 3 times on %i, then it fails',
    async (status) => {
      const prompt = `[[status ${status}]]`;
      const { result, calls } = await countCalls(() => failTurn(createTestEngine(provider), { model, prompt }));
      expect(calls).toBe(3);
      expect(result.error).toMatchObject({
        reason: 'upstream_error',
        retryable: true,
        data: { provider: name, status, attempts: 3 },
      });
      expect(result.error.retryAfterMs).toBeGreaterThan(0);
    },
  );

  it('a turn is answered when the third call succeeds', async () => {
    let left = 2;
    provider.behave(() => (left-- > 0 ? { status: 500 } : { text: 'at last' }));
    const { result, calls } = await countCalls(() => runTurn(createTestEngine(provider), { model }));
    expect(result.outcome.content).toBe('at last');
    expect(calls).toBe(3);
  });

  it('the next call waits for Retry-After', async () => {
    let left = 1;
    provider.behave(() => (left-- > 0 ? { status: 429, headers: { 'retry-after': '0.2' } } : { text: 'ok' }));
    const from = provider.requests.length;
    await runTurn(createTestEngine(provider), { model });
    const [first, second] = provider.requests.slice(from);
    expect((second?.at ?? 0) - (first?.at ?? 0)).toBeGreaterThanOrEqual(195);
  });

  it('a Retry-After above 30 s is passed on without a retry', async () => {
    const prompt = '[[status 429 retry-after 31]]';
    const { result, calls } = await countCalls(() => failTurn(createTestEngine(provider), { model, prompt }));
    expect(calls).toBe(1);
    expect(result.error).toMatchObject({ reason: 'upstream_error', retryable: true, retryAfterMs: 31_000 });
  });

  it('a Retry-After that is a date is understood', async () => {
    const now = Date.parse('2026-01-01T00:00:00Z');
    const headers = { 'retry-after': 'Thu, 01 Jan 2026 00:02:00 GMT' };
    provider.behave(() => ({ status: 503, headers }));
    const engine = createTestEngine(provider, { clock: { now: () => now, monotonic: () => 0 } });
    expect((await failTurn(engine, { model })).error.retryAfterMs).toBe(120_000);
  });

  it.each([401, 403])('refused credentials (%i) are reported once, without being shown', async (status) => {
    provider.behave(() => ({ status, message: `Incorrect API key provided: ${KEY}` }));
    const { result, calls } = await countCalls(() => failTurn(createTestEngine(provider), { model }));
    expect(calls).toBe(1);
    expect(result.error).toMatchObject({ reason: 'upstream_error', retryable: false, data: { status } });
    expect(result.error.message).toContain('refused the configured credentials');
    expect(JSON.stringify([result.error.toWire('r'), errorFields(result.error)])).not.toContain(KEY);
  });

  it('a request that the provider finds wrong is explained, with anything like a key removed', async () => {
    provider.behave(() => ({ status: 400, message: `top_k is not known to ${KEY}` }));
    const { result, calls } = await countCalls(() => failTurn(createTestEngine(provider), { model }));
    expect(calls).toBe(1);
    expect(result.error).toMatchObject({ reason: 'upstream_error', retryable: false });
    expect(result.error.message).toBe(`${label} refused the request (400): top_k is not known to [redacted]`);
    expect(JSON.stringify(errorFields(result.error))).not.toContain(KEY);
  });

  it('an unknown model is answered with invalid_params that names the model', async () => {
    const { error } = await failTurn(createTestEngine(provider), { model, prompt: '[[status 404]]' });
    expect(error.reason).toBe('invalid_params');
    expect(JSON.stringify(error.data.issues)).toContain(model.split('/')[1]);
  });

  it('no redirect is followed, because it would carry the key to another host', async () => {
    provider.behave(() => ({ status: 307, headers: { location: `${provider.url}/v1/messages` } }));
    const { result, calls } = await countCalls(() => failTurn(createTestEngine(provider), { model }));
    expect(calls).toBe(1);
    expect(result.error).toMatchObject({ reason: 'upstream_error', retryable: false });
  });

  it('an answer beyond its bound is refused, and its connection closed', async () => {
    const seen = provider.next();
    const engine = createTestEngine(provider, { answerBytesMax: 200_000 });
    const { error } = await failTurn(engine, { model, prompt: '[[size 50000000]]' });
    expect(error).toMatchObject({ reason: 'upstream_error', retryable: false });
    const request = await seen;
    expect((await request.done).by).toBe('client');
    expect(request.chunksSent).toBeLessThan(700);
  });

  it('silence before the answer is reported as a timeout, and the connection is closed', async () => {
    const seen = provider.next();
    const engine = createTestEngine(provider, { deadlines: { firstByteMs: 150 } });
    const { result, calls } = await countCalls(() => failTurn(engine, { model, prompt: '[[hang headers]]' }));
    expect(result.error).toMatchObject({ reason: 'upstream_timeout', data: { provider: name } });
    expect(calls).toBe(1);
    expect((await (await seen).done).by).toBe('client');
  });

  it('silence within the answer is reported as a timeout', async () => {
    const engine = createTestEngine(provider, { deadlines: { idleMs: 150 } });
    const { error, events } = await failTurn(engine, { model, prompt: '[[hang]]' });
    expect(error).toMatchObject({ reason: 'upstream_timeout', message: `${label} did not answer within 0.15 s` });
    expect(events).toHaveLength(1);
  });

  it('keep-alives prolong the permitted silence, but not the turn', async () => {
    const engine = createTestEngine(provider, { deadlines: { idleMs: 300, totalMs: 900 } });
    const { error } = await failTurn(engine, { model, prompt: '[[hang ping 20]]' });
    expect(error.reason).toBe('upstream_timeout');
    expect(error.message).toContain('0.9 s');
  });

  it('a slow reader is not mistaken for a silent provider', async () => {
    const engine = createTestEngine(provider, { deadlines: { idleMs: 100 } });
    const gate = Promise.withResolvers<void>();
    provider.behave(({ prompt }) =>
      prompt === 'silent'
        ? { hang: 'stream' }
        : { chunks: ['0 ', '1 ', '2 '], gate: (index) => (index === 1 ? gate.promise : Promise.resolve()) },
    );
    const request = provider.next();
    // Held until another turn, which starts later, has met the same deadline, and then until the rest has been sent.
    const hold = async (): Promise<void> => {
      const { error } = await failTurn(engine, { model, prompt: 'silent' });
      expect(error.reason).toBe('upstream_timeout');
      gate.resolve();
      await (await request).done;
    };
    let held: Promise<void> | undefined;
    const onEvent = (): Promise<void> => {
      held ??= hold();
      return held;
    };
    const { outcome } = await runTurn(engine, { model, prompt: 'slow', onEvent });
    expect(outcome.content).toBe('0 1 2 ');
  });

  it('a provider that cannot be reached is called 3 times', async () => {
    let connections = 0;
    const closing = createServer((socket) => {
      connections += 1;
      socket.destroy();
    });
    await new Promise<void>((resolve) => closing.listen(0, '127.0.0.1', resolve));
    const baseUrl = `http://127.0.0.1:${(closing.address() as AddressInfo).port}/v1`;
    const authClient = new OAuth2Client();
    authClient.setCredentials({ access_token: KEY, expiry_date: Date.now() + 3_600_000 });
    const access = { apiKey: KEY, baseUrl };
    const engine = createDirectEngine(
      { anthropic: access, openai: access, google: { project: 'p', location: 'us' } },
      { retryMs: 2, google: { authClient, baseUrl }, modelProviders: toModelProviders(new URL(baseUrl).origin) },
    );
    const { error } = await failTurn(engine, { model });
    expect(connections).toBe(3);
    expect(error).toMatchObject({
      reason: 'upstream_error',
      message: `${label} could not be reached (ECONNRESET)`,
      data: { sent: true },
      retryable: true,
    });
    await new Promise((resolve) => closing.close(resolve));
  });
});

describe('what differs by provider', () => {
  it.each(['anthropic/claude-sonnet-4-5', 'openai/gpt-5', 'groq/llama'])(
    'the call to %s is repeated when its stream begins with an error',
    async (model) => {
      let left = 2;
      provider.behave(() => (left-- > 0 ? { streamError: 'first' } : { text: 'recovered' }));
      const { outcome } = await runTurn(createTestEngine(provider), { model });
      expect(outcome.content).toBe('recovered');
    },
  );

  it('OpenAI is not called again when the account has no quota left', async () => {
    provider.behave(() => ({ status: 429, code: 'insufficient_quota', headers: { 'x-should-retry': 'false' } }));
    const { result, calls } = await countCalls(() => failTurn(createTestEngine(provider), { model: 'openai/gpt-5' }));
    expect(calls).toBe(1);
    expect(result.error).toMatchObject({
      message: 'OpenAI reports that the account has no quota left (429): status 429 as asked',
      retryable: false,
    });
  });

  describe('Google credentials', () => {
    const model = 'google/gemini-2.5-flash';
    let tokens: Server;
    let refuse: boolean;
    beforeAll(async () => {
      tokens = createHttpServer((request, response) => {
        request.resume();
        if (refuse) response.writeHead(400, { 'content-type': 'application/json' }).end('{"error":"invalid_grant"}');
      });
      await new Promise<void>((resolve) => tokens.listen(0, '127.0.0.1', resolve));
    });
    afterAll(() => {
      tokens.closeAllConnections();
      tokens.close();
    });

    function createEngineWithTokens() {
      const oauth2TokenUrl = `http://127.0.0.1:${(tokens.address() as AddressInfo).port}/token`;
      const authClient = new OAuth2Client({ clientId: 'id', clientSecret: 'secret', endpoints: { oauth2TokenUrl } });
      authClient.setCredentials({ refresh_token: KEY });
      return createTestEngine(provider, {
        google: { authClient, baseUrl: provider.url },
        deadlines: { firstByteMs: 500 },
      });
    }

    it('a grant of Google that is refused is reported with how to renew it, and no call is made', async () => {
      refuse = true;
      const { result, calls } = await countCalls(() => failTurn(createEngineWithTokens(), { model }));
      expect(calls).toBe(0);
      expect(result.error).toMatchObject({ reason: 'upstream_error', retryable: false });
      expect(result.error.message).toContain('gcloud auth application-default login');
      expect(JSON.stringify(errorFields(result.error))).not.toContain(KEY);
    });

    it('a token service that does not answer does not block the turn', async () => {
      refuse = false;
      expect((await failTurn(createEngineWithTokens(), { model })).error.reason).toBe('upstream_timeout');
    });
  });

  it('a provider that cannot be set up is masked as an internal error', async () => {
    const engine = createDirectEngine({ google: { project: 'p', location: 'not a host' } });
    expect((await failTurn(engine, { model: 'google/gemini-2.5-flash' })).error.reason).toBe('internal');
  });
});
