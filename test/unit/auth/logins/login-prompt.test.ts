// A prompt that names a login uses the credentials of that login and no others, only for models of its provider. No
// error contains the token, also when the provider refuses or quotes it.
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { PROVIDERS } from '../../../../shared/engines/provider-names.ts';
import { authLogin } from '../../../../shared/methods/auth.login.ts';
import { authLogout } from '../../../../shared/methods/auth.logout.ts';
import { conversationPrompt } from '../../../../shared/methods/conversation.prompt.ts';
import { conversationResume } from '../../../../shared/methods/conversation.resume.ts';
import { createFixture, type Fixture, failure, type Instance } from '../../../support/fixtures/turns/conversations.ts';

/** A secret in a format that no redaction pattern matches. */
const TOKEN = 'token+of/the=caller-0123456789';
const OWN_KEY = 'sk-secret-of-the-test';

let fixture: Fixture;
beforeEach(async () => {
  fixture = await createFixture();
});
afterEach(() => fixture.close());

/** A gateway whose own credentials, if any, are Anthropic's; logins go to the fake provider. */
async function start(env: Readonly<Record<string, string>> = {}): Promise<Instance> {
  const { url } = fixture.provider;
  return fixture.instance({
    GATEWAY_STORE: 'memory',
    ANTHROPIC_BASE_URL: url,
    OPENAI_BASE_URL: url,
    GOOGLE_BASE_URL: url,
    CHATGPT_BASE_URL: `${url}/backend-api`,
    ...env,
  });
}

async function logIn(instance: Instance, provider: 'anthropic' | 'openai' | 'google' | 'chatgpt', owner = 'default') {
  const { session_id } = await instance.call(authLogin, { provider, credentials: { token: TOKEN } }, { owner });
  return session_id;
}

const header = { anthropic: 'x-api-key', openai: 'authorization', google: 'x-goog-api-key' } as const;

describe('a prompt that names a login', () => {
  it.each(['anthropic', 'openai', 'google'] as const)(
    'a prompt that names a login is answered on the caller’s own %s account, where the deployment has none, by that provider’s default model',
    async (provider) => {
      const instance = await start({ ANTHROPIC_API_KEY: '', MODEL: '' });
      const answer = await instance.prompt('hi', { auth_session_id: await logIn(instance, provider) });
      expect(answer).toMatchObject({ content: 'You said: hi', model: PROVIDERS[provider].defaultModel });
      const [request] = fixture.provider.requests;
      expect(request?.format).toBe(provider);
      expect(`${request?.headers[header[provider]]}`).toContain(TOKEN);
    },
  );

  it('a prompt that names a login never uses the deployment’s credentials, and one without a login never the caller’s', async () => {
    const instance = await start();
    const login = await logIn(instance, 'anthropic');
    await instance.prompt('one', { auth_session_id: login });
    await instance.prompt('two');
    await instance.prompt('three', { auth_session_id: login });
    expect(fixture.provider.requests.map(({ headers }) => headers['x-api-key'])).toEqual([TOKEN, OWN_KEY, TOKEN]);
    // One session, one history, with either credential.
    expect(fixture.provider.requests.map(({ messages }) => messages)).toEqual([1, 3, 5]);
  });

  it.each([
    ['anthropic', 'openai/gpt-5', 'models of anthropic'],
    ['anthropic', 'offline/echo', 'models of anthropic'],
    ['openai', 'anthropic/claude-sonnet-4-5', 'models of openai and codex'],
    ['chatgpt', 'openai/gpt-5', 'models of codex'],
  ] as const)('a prompt that names a login with %s is refused for %s', async (provider, model, hint) => {
    const instance = await start();
    const login = await logIn(instance, provider);
    const error = await failure(instance.prompt('hi', { auth_session_id: login, model }));
    expect(error.reason).toBe('invalid_params');
    expect(error.data.issues).toEqual([{ path: 'model', message: expect.stringContaining(hint) }]);
    expect(fixture.provider.calls).toBe(0);
  });

  it('a prompt that names a login is not_found, and calls no model, for a login that is unknown, another key’s, logged out or expired', async () => {
    const instance = await start();
    const theirs = await logIn(instance, 'anthropic', 'somebody-else');
    const gone = await logIn(instance, 'anthropic');
    await instance.call(authLogout, { session_id: gone });
    const old = await logIn(instance, 'anthropic');
    const promptWith = async (auth_session_id: string): Promise<string> => {
      const error = await failure(instance.prompt('hi', { auth_session_id }));
      return JSON.stringify(error.toWire('req_1'));
    };
    const responses = [await promptWith('auth_unknown'), await promptWith(theirs), await promptWith(gone)];
    fixture.clock.advance(31 * 86_400_000);
    responses.push(await promptWith(old));
    expect(new Set(responses).size).toBe(1);
    expect(responses[0]).toContain('"reason":"not_found"');
    expect(fixture.provider.calls).toBe(0);
  });

  it('a prompt that names a login under an idempotency key is another request than one without it, and the same one when repeated', async () => {
    const instance = await start();
    const login = await logIn(instance, 'anthropic');
    const params = { idempotency_key: 'k', session_id: 's', auth_session_id: login };
    const first = await instance.prompt('hi', params);
    expect((await instance.prompt('hi', params)).turn_id).toBe(first.turn_id);
    const error = await failure(
      instance.call(conversationPrompt, { prompt: 'hi', session_id: 's', idempotency_key: 'k' }),
    );
    expect(error.reason).toBe('invalid_params');
    expect(fixture.provider.calls).toBe(1);
  });

  it('a prompt that names a login continues when its login ends while the turn runs', async () => {
    const instance = await start();
    const login = await logIn(instance, 'anthropic');
    const stream = instance.stream('[[chunks 4 every 30]]', { auth_session_id: login });
    await stream.until(({ event }) => 'AgentMessageDelta' in event);
    await instance.call(authLogout, { session_id: login });
    expect((await stream.answer).content).not.toBe('');
  });
});

describe('a provider that', () => {
  it.each([
    ['does not know the token any more', 401, 'refused the credentials of the login (401)'],
    ['quotes the token in its error', 400, '[redacted]'],
  ])(
    'a provider that %s gives an error that names no token: in the answer, the log and the documents',
    async (_name, status, hint) => {
      const instance = await start({ OPENAI_API_KEY: '' });
      for (const provider of ['anthropic', 'openai', 'google'] as const) {
        const login = await logIn(instance, provider);
        fixture.provider.behave(() => ({ status, message: `no such key: ${TOKEN}, really ${TOKEN}` }));
        const session_id = `s-${provider}`;
        const error = await failure(instance.prompt('hi', { auth_session_id: login, session_id }));
        expect(error.reason).toBe('upstream_error');
        expect(error.message).toContain(hint);
        const replay = await instance.call(conversationResume, { session_id });
        expect(replay.status).toBe('failed');
        const errorText = JSON.stringify([error.toWire('r'), replay, error.stack, String(error.cause)]);
        expect(errorText).not.toContain(TOKEN);
      }
      instance.services.log.flush();
      expect(instance.logged.join('')).not.toContain(TOKEN);
      expect(await everyDocument()).not.toContain(TOKEN);
    },
  );
});

async function everyDocument(): Promise<string> {
  const names = await fixture.documents();
  const refs = names.map((name) => {
    const [collection = '', id = ''] = name.split('/');
    return { collection, id };
  });
  expect(refs.some(({ collection }) => collection === 'logins')).toBe(true);
  return JSON.stringify(await fixture.store.get(refs));
}
