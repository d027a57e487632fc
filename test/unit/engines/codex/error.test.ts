// A turn of the real Codex that fails or stops has a clear error, leaves no process, and its session continues: errors
// of the provider, a broken stream, a cancelled turn, a process that ends during a turn.
import { afterAll, beforeAll, expect, it } from 'vitest';
import { RpcError } from '../../../../shared/errors.ts';
import {
  appServers,
  byPrompt,
  type Conversation,
  descendants,
  describeCodex,
  type Fixture,
  setUpFixture,
  startConversation,
  textsIn,
} from '../../../support/fixtures/sandbox/codex.ts';

describeCodex('a codex turn that does not complete', (place) => {
  let fixture: Fixture;
  let engine: ReturnType<Fixture['machine']>;
  let conversation: Conversation;
  beforeAll(async () => {
    fixture = await setUpFixture(place);
    engine = fixture.machine();
    conversation = startConversation();
  });
  afterAll(() => fixture.close());

  const NO = { reason: 'upstream_error', retryable: false };
  const AGAIN = { reason: 'upstream_error', retryable: true };

  it.each([
    [
      'status 401',
      {
        ...NO,
        message: 'OpenAI refused the configured credentials (401): no, said [redacted] at 401',
        data: { status: 401 },
      },
    ],
    [
      'status 402',
      { ...NO, message: 'OpenAI reports that the account has no quota left (402): no, said [redacted] at 402' },
    ],
    ['status 403', { ...NO, message: 'OpenAI refused the configured credentials (403): no, said [redacted] at 403' }],
    ['status 404', { ...NO, message: expect.stringContaining('has no such API (404; is OPENAI_BASE_URL right?)') }],
    ['status 404 of this model', { reason: 'invalid_params', data: { issues: [{ path: 'model' }] } }],
    ['status 400', { ...NO, message: 'OpenAI refused the request: no, said [redacted] at 400' }],
    ['status 429', { ...AGAIN, message: 'OpenAI rejected the call: rate limit exceeded (429)', retryAfterMs: 5_000 }],
    ['status 500', AGAIN],
    ['cut half', { ...AGAIN, message: 'OpenAI ended its answer before it was complete' }],
    ['failed rate_limit_exceeded', { ...AGAIN, data: { status: 429 } }],
    ['failed server_is_overloaded', { ...AGAIN, data: { status: 503 } }],
    ['failed model_not_found', { reason: 'invalid_params', data: { status: 404, issues: [{ path: 'model' }] } }],
    ['failed insufficient_quota', { ...NO, data: { detail: 'quota' } }],
    ['failed server_error', AGAIN],
  ])('Codex returns %s of the provider as an error of the table, with its message', async (prompt, expected) => {
    const error = await conversation.fail(engine, prompt);
    expect(error).toMatchObject(expected);
    expect(JSON.stringify([error.message, error.data])).not.toMatch(/127\.0\.0\.1|sk-leaked/);
  });

  it('the key is removed from the message of the provider about a failed codex turn, in any form', async () => {
    const apiKey = 'a-key-of-no-known-form';
    const own = fixture.machine({ apiKey });
    fixture.api.behave(() => ({ status: 400, message: `wrong: ${apiKey}` }));
    const error = await startConversation('key-own').fail(own, 'hello');
    expect(error.message).toBe('OpenAI refused the request: wrong: [redacted]');
    fixture.api.behave(byPrompt);
    await own.close();
  });

  it('a codex turn is refused when its provider cannot be reached, and its session stays usable', async () => {
    const away = fixture.machine({ baseUrls: { gateway: 'http://127.0.0.1:9/v1', chatgpt: 'http://127.0.0.1:9' } });
    const error = await startConversation('key-away').fail(away, 'hello');
    expect(error).toMatchObject({ ...AGAIN, message: 'OpenAI could not be reached' });
    await away.close();
    expect((await conversation.prompt(engine, 'still there?')).outcome.content).toBe('You said: still there?');
  });

  it('a codex turn that does not complete closes the provider’s socket when the turn is cancelled; the session continues', async () => {
    const controller = new AbortController();
    fixture.api.behave(() => ({ text: ['one ', 'two '], gate: new Promise(() => {}) }));
    const arrived = fixture.api.next();
    const failed = conversation.fail(engine, 'count', {}, controller.signal);
    const request = await arrived;
    const reason = new RpcError('cancelled');
    controller.abort(reason);
    expect(await failed).toBe(reason);
    expect(await request.ended).toBe('client');
    fixture.api.behave(byPrompt);
    conversation.messages.push({ role: 'assistant', content: 'one two ' });
    await conversation.prompt(engine, 'and then?');
    expect(textsIn(fixture.api.requests.at(-1)).slice(-3)).toEqual(['count', 'one two ', 'and then?']);
  });

  it('a cancelled codex turn stops its running command', async () => {
    const isRunning = (argv: readonly string[]): boolean => argv[0] === 'sleep' && argv[1] === '4242';
    const controller = new AbortController();
    const conversation = startConversation();
    const failed = conversation.fail(engine, 'run echo begun; sleep 4242', {}, controller.signal);
    await expect.poll(() => descendants(isRunning)).toHaveLength(1);
    controller.abort(new RpcError('cancelled'));
    await failed;
    await expect.poll(() => descendants(isRunning)).toEqual([]);
  });

  it('a killed app-server ends its turn only; the next turn starts a new one', async () => {
    fixture.api.behave(() => ({ text: 'never', gate: new Promise(() => {}) }));
    const arrived = fixture.api.next();
    const failed = conversation.fail(engine, 'die');
    await arrived;
    const [pid] = appServers();
    expect(pid).toBeDefined();
    process.kill(pid ?? 0, 'SIGKILL');
    expect(await failed).toMatchObject({ reason: 'upstream_error', message: 'Codex ended during the turn' });
    fixture.api.behave(byPrompt);
    await conversation.prompt(engine, 'alive?');
    expect(textsIn(fixture.api.requests.at(-1))).toEqual(
      expect.arrayContaining(['still there?', 'count', 'die', 'alive?']),
    );
  });

  it('Codex does not start for a turn that is cancelled already', async () => {
    const requests = fixture.api.requests.length;
    const reason = new RpcError('cancelled');
    expect(await conversation.fail(engine, 'too late', {}, AbortSignal.abort(reason))).toBe(reason);
    expect(fixture.api.requests.length).toBe(requests);
  });

  it('a closed engine leaves no process', async () => {
    expect(appServers().length).toBeGreaterThan(0);
    await engine.close();
    expect(appServers()).toEqual([]);
    await expect(conversation.fail(engine, 'after the end')).resolves.toMatchObject({ reason: 'unavailable' });
  });
});
