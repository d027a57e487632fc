// auth.login checks a token at its provider and stores it encrypted, readable by its own key only; auth.logout deletes
// it. The services are real, the provider is a fake.
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { createMemoryKeyWrapper } from '../../../../shared/auth/logins/local-key.ts';
import { createLoginCheck, LOGIN_PROVIDERS, type LoginProvider } from '../../../../shared/auth/logins/login-check.ts';
import { createLogins, LOGIN_MS, type Logins } from '../../../../shared/auth/logins/logins.ts';
import { randomIds } from '../../../../shared/clock.ts';
import { RpcError } from '../../../../shared/errors.ts';
import { createEmbeddedStore } from '../../../../shared/store/embedded/embedded.ts';
import type { Ref, Store } from '../../../../shared/store/store.ts';
import { type ModelProvider, startModelProvider } from '../../../support/fakes/model-provider/model-provider.ts';
import { createTestClock, cutOff, type Line } from '../../../support/fixtures/limiter/rate-limit.ts';

const TOKEN = 'token-of-the-test-0123456789';
const { signal } = new AbortController();

let provider: ModelProvider;
let clock: ReturnType<typeof createTestClock>;
let store: Line;
let written: Ref[];
let logins: Logins;

beforeAll(async () => {
  provider = await startModelProvider();
});
afterAll(() => provider.close());

beforeEach(() => {
  provider.checks.answer();
  provider.checks.seen.length = 0;
  clock = createTestClock();
  written = [];
  const embedded = createEmbeddedStore({ path: ':memory:', clock });
  const remembering: Store = {
    ...embedded,
    commit(writes, options) {
      written.push(...writes.map(({ ref }) => ref));
      return embedded.commit(writes, options);
    },
  };
  store = cutOff(remembering);
  logins = make();
});
afterEach(() => store.close());

function make(more: { timeoutMs?: number; baseUrl?: string; wrapper?: undefined } = {}): Logins {
  const base = more.baseUrl ?? provider.url;
  const baseUrls = { anthropic: `${base}/v1`, openai: `${base}/v1`, google: `${base}/v1beta`, chatgpt: `${base}/api` };
  const check = createLoginCheck({ baseUrls, timeoutMs: more.timeoutMs ?? 5_000 });
  return createLogins({ store, clock, ids: randomIds, check, wrapper: createMemoryKeyWrapper(), ...more });
}

async function failure(work: Promise<unknown>): Promise<RpcError> {
  const error: unknown = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof RpcError)) throw new Error(`not refused: ${String(error)}`);
  return error;
}

/** A token as OpenAI's sign-in makes them; the gateway does not check its signature. */
function jwt(claims: object): string {
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  return `${part({ alg: 'RS256' })}.${part(claims)}.c2lnbmF0dXJl`;
}

describe('the check of a token', () => {
  it.each([
    ['anthropic', '/v1/models?limit=1', { 'x-api-key': TOKEN, 'anthropic-version': '2023-06-01' }],
    ['openai', '/v1/models', { authorization: `Bearer ${TOKEN}` }],
    ['google', '/v1beta/models?pageSize=1', { 'x-goog-api-key': TOKEN }],
    ['chatgpt', '/api/wham/usage', { authorization: `Bearer ${TOKEN}` }],
  ] as const)(
    'the check of a token sends one request to %s, with the token in a header and never in the URL',
    async (name, path, headers) => {
      await logins.login('a', name, TOKEN, signal);
      expect(provider.checks.seen).toMatchObject([{ path, headers }]);
    },
  );

  it('the check of a token names the account that a ChatGPT token is for', async () => {
    const token = jwt({ 'https://api.openai.com/auth': { chatgpt_account_id: 'acc-1' } });
    await logins.login('a', 'chatgpt', token, signal);
    expect(provider.checks.seen).toMatchObject([{ headers: { 'chatgpt-account-id': 'acc-1' } }]);
  });

  const quoting = { body: JSON.stringify({ error: { message: `bad key ${TOKEN}`, status: 'API_KEY_INVALID' } }) };
  it.each<readonly [LoginProvider, number]>([
    ...LOGIN_PROVIDERS.flatMap((name) => [[name, 401] as const, [name, 403] as const]),
    // Google's response for an unknown key.
    ['google', 400],
  ])('a token that is refused by %s with %d is invalid_params for it, and nothing is stored', async (name, status) => {
    provider.checks.answer({ status, ...quoting });
    const error = await failure(logins.login('a', name, TOKEN, signal));
    expect(error.toWire('req_1')).toEqual({
      code: -32602,
      message: 'credentials.token: the provider refused this token',
      data: {
        reason: 'invalid_params',
        request_id: 'req_1',
        retryable: false,
        provider: name,
        provider_status: status,
        issues: [{ path: 'credentials.token', message: 'the provider refused this token' }],
      },
    });
    expect(written).toEqual([]);
  });

  it.each([
    ['500', { status: 500, ...quoting }],
    ['503', { status: 503, ...quoting }],
    ['429', { status: 429, ...quoting }],
    ['404 (a wrong base URL)', { status: 404, ...quoting }],
    ['400', { status: 400, body: '{}' }],
    ['a cut connection', 'reset'],
    ['silence', 'hang'],
  ] as const)(
    'a check that is answered with %s is unavailable, once, within the deadline, and nothing is stored',
    async (_name, answer) => {
      provider.checks.answer(answer);
      const error = await failure(make({ timeoutMs: 300 }).login('a', 'anthropic', TOKEN, signal));
      expect(error).toMatchObject({ reason: 'unavailable', retryable: true, data: { provider: 'anthropic' } });
      expect(`${error.stack} ${error.cause instanceof Error ? error.cause.stack : ''}`).not.toContain(TOKEN);
      expect(error.cause).toBeInstanceOf(Error);
      expect(provider.checks.seen).toHaveLength(1);
      expect(written).toEqual([]);
    },
  );

  it('the check of a token is unavailable when the provider cannot be reached', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    await new Promise((resolve) => server.close(resolve));
    const error = await failure(make({ baseUrl: `http://127.0.0.1:${port}` }).login('a', 'openai', TOKEN, signal));
    expect(error.reason).toBe('unavailable');
    expect(error.cause).toMatchObject({ message: expect.stringContaining('ECONNREFUSED') });
  });

  it('the check of a token follows no redirect, so that the token stays with the configured origin', async () => {
    const other = await startModelProvider();
    provider.checks.answer({ status: 302, headers: { location: `${other.url}/v1/models` } });
    expect((await failure(logins.login('a', 'anthropic', TOKEN, signal))).reason).toBe('unavailable');
    expect(other.checks.seen).toEqual([]);
    await other.close();
  });

  it('the check of a token ends with the caller’s reason when the caller leaves', async () => {
    provider.checks.answer('hang');
    const controller = new AbortController();
    const pending = logins.login('a', 'openai', TOKEN, controller.signal);
    const reason = new Error('left');
    controller.abort(reason);
    await expect(pending).rejects.toBe(reason);
    expect(written).toEqual([]);
  });

  it('a token whose own claim has expired is refused without a request to its provider', async () => {
    const error = await failure(
      logins.login('a', 'chatgpt', jwt({ exp: Math.floor(clock.now() / 1_000) - 1 }), signal),
    );
    expect(error.data.issues).toEqual([{ path: 'credentials.token', message: 'this token has expired' }]);
    expect(provider.checks.seen).toEqual([]);
  });

  it('the check of a token is not made where the deployment has no key to seal with: forbidden, and who disabled it', async () => {
    const error = await failure(make({ wrapper: undefined }).login('a', 'openai', TOKEN, signal));
    expect(error).toMatchObject({ reason: 'forbidden', data: { disabled_by: 'deployment' } });
    expect(error.message).toContain('KMS_KEY');
    expect(provider.checks.seen).toEqual([]);
  });
});

describe('a login', () => {
  it('a login returns the token to its owner', async () => {
    const { sessionId } = await logins.login('a', 'openai', TOKEN, signal);
    const credential = await logins.use('a', sessionId, signal);
    expect(credential.provider).toBe('openai');
    expect(credential.token()).toBe(TOKEN);
  });

  it('a login shows no token when the credential is logged, serialised or spread', async () => {
    const { sessionId } = await logins.login('a', 'openai', TOKEN, signal);
    const credential = await logins.use('a', sessionId, signal);
    expect(JSON.stringify({ ...credential })).toBe('{"provider":"openai"}');
  });

  it('a login lasts 30 days, and then looks absent, even where the store still has it', async () => {
    const { sessionId, expiresAtMs } = await logins.login('a', 'openai', TOKEN, signal);
    expect(expiresAtMs).toBe(clock.now() + LOGIN_MS);
    clock.advance(LOGIN_MS - 1);
    await logins.use('a', sessionId, signal);
    clock.advance(1);
    expect((await failure(logins.use('a', sessionId, signal))).reason).toBe('not_found');
    expect(await logins.logout('a', sessionId, signal)).toBe(false);
  });

  it('a login made by a clock that was 400 days ahead has ended once it is right', async () => {
    clock.step(400 * 86_400_000);
    const { sessionId } = await logins.login('a', 'openai', TOKEN, signal);
    clock.step(-400 * 86_400_000);
    expect((await failure(logins.use('a', sessionId, signal))).reason).toBe('not_found');
  });

  it.each([
    ['its token’s own end, when that comes first', 3_600, 3_600_000],
    ['30 days, when the token lasts longer', 90 * 86_400, LOGIN_MS],
  ])('a login lasts until %s', async (_name, expInSeconds, lastsMs) => {
    const token = jwt({ exp: Math.floor(clock.now() / 1_000) + expInSeconds });
    expect((await logins.login('a', 'chatgpt', token, signal)).expiresAtMs).toBe(clock.now() + lastsMs);
  });

  it.each([
    ['no JWT', 'a.b.c'],
    ['a JWT of something else', `x.${Buffer.from('[1]').toString('base64url')}.y`],
    ['an exp that is no number', jwt({ exp: 'tomorrow' })],
    ['an exp beyond all time', jwt({ exp: 1e300 })],
  ])('a login lasts 30 days with a token that only looks like a JWT: %s', async (_name, token) => {
    expect((await logins.login('a', 'openai', token, signal)).expiresAtMs).toBe(clock.now() + LOGIN_MS);
  });

  it('a login of another key, an unknown one and a logged-out one are refused with the same response', async () => {
    const { sessionId } = await logins.login('a', 'openai', TOKEN, signal);
    const gone = await logins.login('b', 'openai', TOKEN, signal);
    expect(await logins.logout('b', gone.sessionId, signal)).toBe(true);
    const refusals = await Promise.all(
      [sessionId, 'auth_unknown', gone.sessionId, '../logins', '\u{1f511}'].map((id) =>
        failure(logins.use('b', id, signal)),
      ),
    );
    expect(new Set(refusals.map((error) => JSON.stringify(error.toWire('req_1')))).size).toBe(1);
    expect(refusals[0]?.reason).toBe('not_found');
  });

  it('a login cannot be ended by another key, and is ended once by its own', async () => {
    const { sessionId } = await logins.login('a', 'openai', TOKEN, signal);
    expect(await logins.logout('b', sessionId, signal)).toBe(false);
    const outcomes = await Promise.all([1, 2, 3].map(() => logins.logout('a', sessionId, signal)));
    expect(outcomes.filter(Boolean)).toEqual([true]);
  });

  it('a logout deletes every document of the login', async () => {
    const { sessionId } = await logins.login('a', 'openai', TOKEN, signal);
    await logins.logout('a', sessionId, signal);
    expect((await store.get(written)).every(({ version }) => version === null)).toBe(true);
  });

  it('a login of one key cannot be opened when its document is moved to another key’s', async () => {
    const mine = await logins.login('a', 'openai', TOKEN, signal);
    const theirs = await logins.login('b', 'openai', 'another-token', signal);
    const [from, to] = await store.get(written);
    if (from?.data === undefined || to === undefined) throw new Error('not stored');
    await store.commit([{ ref: to.ref, data: from.data }]);
    await expect(logins.use('b', theirs.sessionId, signal)).rejects.toThrow(/authenticate/);
    expect((await logins.use('a', mine.sessionId, signal)).token()).toBe(TOKEN);
  });

  it.each([
    ['last longer', { expires_at_ms: Date.UTC(2026, 0, 1, 12) + LOGIN_MS + 1_000 }],
    ['be for another provider', { provider: 'anthropic' }],
  ])('a login does not open when its document was changed to %s', async (_name, change) => {
    const { sessionId } = await logins.login('a', 'openai', TOKEN, signal);
    const [snapshot] = await store.get(written);
    if (snapshot === undefined) throw new Error('not stored');
    await store.commit([{ ref: snapshot.ref, data: { ...snapshot.data, ...change } }]);
    await expect(logins.use('a', sessionId, signal)).rejects.toThrow(/authenticate/);
  });

  it('a login is stored without the token, its session id or anything that could find either', async () => {
    const { sessionId } = await logins.login('a', 'openai', TOKEN, signal);
    const [snapshot] = await store.get(written);
    const text = JSON.stringify(snapshot);
    for (const secret of [
      TOKEN,
      sessionId,
      sessionId.slice('auth_'.length),
      Buffer.from(TOKEN).toString('base64url'),
    ]) {
      expect(text).not.toContain(secret);
    }
  });

  it('a login that cannot be stored is unavailable; so is one that cannot be read', async () => {
    const { sessionId } = await logins.login('a', 'openai', TOKEN, signal);
    store.state = 'down';
    expect((await failure(logins.login('a', 'openai', TOKEN, signal))).reason).toBe('unavailable');
    expect((await failure(logins.use('a', sessionId, signal))).reason).toBe('unavailable');
    expect((await failure(logins.logout('a', sessionId, signal))).reason).toBe('unavailable');
  });
});
