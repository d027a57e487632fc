// A prompt with fallbacks counts as one prompt, invalid fallbacks are refused, and models that fail repeatedly are
// passed over. The failures themselves are in fallbacks.matrix.test.ts.
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { SCOPES } from '../../../../shared/config/values/key-document.ts';
import { createEngines } from '../../../../shared/engines/engines.ts';
import { checkDependencies } from '../../../../shared/methods/check-dependencies.ts';
import { conversationCancel } from '../../../../shared/methods/conversation.cancel.ts';
import { conversationHistory } from '../../../../shared/methods/conversation.history.ts';
import { conversationPrompt } from '../../../../shared/methods/conversation.prompt.ts';
import { conversationStatus } from '../../../../shared/methods/conversation.status.ts';
import { PromptParams, placeOfPrompt } from '../../../../shared/methods/prompt-turn.ts';
import { systemHealth } from '../../../../shared/methods/system.health.ts';
import { checkParams } from '../../../../shared/rpc/params/issues.ts';
import type { Script } from '../../../support/fakes/model-provider/model-provider-script.ts';
import {
  createFixture,
  type Fixture,
  failure,
  type Instance,
  isDelta,
} from '../../../support/fixtures/turns/conversations.ts';

const FIRST = 'anthropic/claude-first';
const NEXT = ['anthropic/claude-next', 'openai/gpt-next'] as const;

let fixture: Fixture;
let a: Instance;
let sessions = 0;
let session_id: string;
const openAi = () => ({ OPENAI_API_KEY: 'sk-other', OPENAI_BASE_URL: fixture.provider.url, MODEL: FIRST });
beforeAll(async () => {
  fixture = await createFixture({ engines: (config) => createEngines(config, { direct: { retryMs: 1 } }) });
});
beforeEach(async () => {
  session_id = `s${++sessions}`;
  fixture.provider.behave(({ model }) => ({ text: `from ${model}` }));
  // Of its own for each test, so that no failures are remembered.
  a = await fixture.instance(openAi());
});
afterAll(() => fixture.close());

/** The first model does this, all others answer. */
function failFirst(script: Script): void {
  fixture.provider.behave(({ model }) => (model === 'claude-first' ? script : { text: `from ${model}` }));
}

const calledModels = (from: number): string[] =>
  fixture.provider.requests.filter(({ index }) => index >= from).map(({ model }) => model);

describe('a prompt with fallbacks', () => {
  it('a prompt with fallbacks is answered by its own model without a trace of them', async () => {
    failFirst({ text: 'from the first' });
    const from = fixture.provider.calls;
    const answer = await a.prompt('hello', { session_id, fallbacks: [...NEXT] });
    expect(answer).toMatchObject({ content: 'from the first', model: FIRST });
    expect(JSON.stringify(answer)).not.toContain('fallback');
    expect(calledModels(from)).toEqual(['claude-first']);
  });

  it('a prompt with fallbacks names all models that failed, in their order', async () => {
    fixture.provider.behave(({ model }) => (model === 'gpt-next' ? { text: 'finally' } : { status: 403 }));
    const stream = a.stream('hello', { session_id, fallbacks: [...NEXT] });
    expect(await stream.answer).toMatchObject({ content: 'finally', model: NEXT[1] });
    const failed = [FIRST, NEXT[0]].map((model) => expect.objectContaining({ model, reason: 'upstream_error' }));
    expect(stream.events[0]).toMatchObject({
      seq: 1,
      event: { TaskStarted: { model: NEXT[1], fallback_from: failed } },
    });
    expect(await a.call(conversationStatus, { session_id })).toMatchObject({ metadata: { message_count: 2 } });
  });

  it('a prompt with fallbacks fails with the error of the last one; the prompt is stored once however often it is repeated', async () => {
    fixture.provider.behave(({ model }) => (model === 'gpt-next' ? { status: 529 } : { status: 429 }));
    const params = { session_id, fallbacks: [...NEXT], idempotency_key: session_id };
    for (let attempt = 0; attempt < 2; attempt++) {
      const error = await failure(a.prompt('hello', params));
      expect(error).toMatchObject({ reason: 'upstream_error', data: { status: 529, model: NEXT[1] } });
    }
    failFirst({ status: 529 });
    const answer = await a.prompt('hello', params);
    expect(await a.prompt('hello', params)).toEqual(answer);
    const { messages } = await a.call(conversationHistory, { session_id });
    expect(messages).toMatchObject([{ role: 'user' }, { role: 'assistant', model: NEXT[0] }]);
    expect(messages).toHaveLength(2);
  });

  it('a prompt with fallbacks is another prompt without them, for its idempotency key', async () => {
    failFirst({ text: 'x' });
    const params = { session_id, idempotency_key: session_id };
    const answer = await a.prompt('hello', params);
    expect(await a.prompt('hello', { ...params, fallbacks: [] })).toEqual(answer);
    const error = await failure(a.prompt('hello', { ...params, fallbacks: [NEXT[0]] }));
    expect(error).toMatchObject({ reason: 'invalid_params', data: { issues: [{ path: 'idempotency_key' }] } });
  });

  it('a prompt with fallbacks is not sent to them once its model has begun its answer', async () => {
    failFirst({ chunks: ['a', 'b'], cut: 'socket' });
    const from = fixture.provider.calls;
    const stream = a.stream('hello', { session_id, fallbacks: [...NEXT] });
    await failure(stream.answer);
    expect(stream.events.filter(isDelta)).toHaveLength(1);
    expect(calledModels(from)).toEqual(['claude-first']);
  });

  it('a prompt with fallbacks is trimmed for its own model where it is too long', async () => {
    let overflows = 1;
    await a.prompt('earlier '.repeat(200), { session_id });
    const from = fixture.provider.calls;
    fixture.provider.behave(({ model }) =>
      overflows-- > 0 ? { status: 400, message: 'prompt is too long: 300 tokens > 200 maximum' } : { text: model },
    );
    expect(await a.prompt('hello', { session_id, fallbacks: [...NEXT] })).toMatchObject({ model: FIRST });
    expect(calledModels(from)).toEqual(['claude-first', 'claude-first']);
  });

  it('a prompt with fallbacks is ended by a cancellation whichever model runs', async () => {
    fixture.provider.behave(({ model }) => (model === 'claude-first' ? { status: 529 } : { hang: 'headers' }));
    const stream = a.stream('hello', { session_id, fallbacks: [...NEXT] });
    for (let seen = await fixture.provider.next(); seen.model !== 'claude-next'; ) seen = await fixture.provider.next();
    expect(await a.call(conversationCancel, { session_id })).toMatchObject({ cancelled: true, was_running: true });
    expect((await failure(stream.answer)).reason).toBe('cancelled');
    expect(stream.events).toMatchObject([
      { event: { TaskStarted: { model: NEXT[0], fallback_from: [{ model: FIRST }] } } },
      { event: { TurnAborted: { reason: 'cancelled' } } },
    ]);
    expect(fixture.provider.requests.at(-1)?.model).toBe('claude-next');
  });

  it('the next model is called when an answer does not begin although its stream stays open', async () => {
    const impatient = await fixture.instance({ ...openAi(), GATEWAY_TURN_TIMEOUT_MS: '6000' });
    failFirst({ hang: 'stream', chunks: [''], pingMs: 100 });
    const answer = await impatient.prompt('hello', { session_id, fallbacks: [...NEXT] });
    expect(answer).toMatchObject({ model: NEXT[0] });
    expect(JSON.stringify(answer.events[0])).toContain('did not begin its answer within');
  });
});

it.each([
  [[...NEXT], 'local'],
  [[NEXT[0], 'codex/gpt-6.1-sol'], 'companion'],
])('a prompt with the fallbacks %j runs where all its models can: %s', async (fallbacks, place) => {
  const params = PromptParams.parse({ prompt: 'hello', model: FIRST, fallbacks });
  const caller = { keyId: 'default', scopes: new Set(SCOPES), limits: a.services.config.limits };
  const { signal } = new AbortController();
  expect(await placeOfPrompt(params, { services: a.services, caller, signal })).toBe(place);
});

describe('fallbacks are refused before anything is called or stored', () => {
  it.each([
    ['unknown provider', [NEXT[0], 'nowhere/model'], 'fallbacks.1', /nowhere/],
    ['no credentials', ['google/gemini-2.5-flash'], 'fallbacks.0', /no credentials here: set GOOGLE_CLOUD_PROJECT/],
    ['not a model', ['gpt'], 'fallbacks.0', /provider\/model/],
    ['twice the same', [NEXT[0], NEXT[1], NEXT[0]], 'fallbacks.2', /^anthropic\/claude-next is named twice$/],
    [
      'the model itself',
      [NEXT[0], FIRST],
      'fallbacks.1',
      /^anthropic\/claude-first is the model of the prompt already$/,
    ],
  ])('invalid fallbacks are refused before anything is called or stored: %s', async (_, fallbacks, path, message) => {
    failFirst({ text: 'x' });
    const from = fixture.provider.calls;
    const error = await failure(a.prompt('hello', { session_id, fallbacks }));
    expect(error).toMatchObject({ reason: 'invalid_params', retryable: false });
    expect(error.data.issues).toEqual([{ path, message: expect.stringMatching(message) }]);
    expect(fixture.provider.calls).toBe(from);
    expect((await failure(a.call(conversationHistory, { session_id }))).reason).toBe('not_found');
  });

  it.each([
    [['a/b', 'a/c', 'a/d', 'a/e'], 'fallbacks', 'fallbacks must have at most 3 entries'],
    ['a/b', 'fallbacks', 'fallbacks must be a list'],
    [[''], 'fallbacks.0', expect.any(String)],
  ])('fallbacks of the wrong form are refused: %j', (fallbacks, path, message) => {
    expect(checkParams(conversationPrompt.params, { prompt: 'hi', fallbacks })).toEqual({
      issues: [{ path, message }],
    });
  });
});

it('failures with the credential of a caller do not count against the model', async () => {
  failFirst({ status: 403 });
  const credential = { provider: 'anthropic', token: () => 'sk-of-the-caller' } as const;
  for (let time = 0; time < 6; time++) {
    const turn = await a.services.conversations.prompt(
      {
        ...{ owner: 'default', sessionId: session_id, prompt: 'hello', model: FIRST, instructions: undefined },
        ...{ onBusy: 'queue', idempotencyKey: undefined, login: { sessionId: 'login', credential } },
      },
      new AbortController().signal,
    );
    expect((await turn.done).turn).toMatchObject({ status: 'failed' });
  }
  expect(a.services.conversations.models.passedOver()).toEqual([]);
});

describe('a model that failed five times in 30 s', () => {
  beforeEach(async () => {
    failFirst({ status: 529 });
    for (let time = 0; time < 5; time++) await a.prompt('hello', { session_id, fallbacks: [...NEXT] });
  });

  it('a model that failed five times in 30 s is passed over where there is a fallback, and is named in the report of the instance', async () => {
    const from = fixture.provider.calls;
    const answer = await a.prompt('hello', { session_id, fallbacks: [...NEXT] });
    expect(calledModels(from)).toEqual(['claude-next']);
    expect(answer.events[0]).toMatchObject({
      TaskStarted: { model: NEXT[0], fallback_from: [{ model: FIRST, reason: 'passed_over' }] },
    });
    const named = [{ model: FIRST, retry_in_ms: expect.any(Number) }];
    expect(await a.call(systemHealth, {})).toMatchObject({ status: 'healthy', models_passed_over: named });
    expect(await checkDependencies(a.services)).toMatchObject({ models_passed_over: named });
  });

  it('a model that failed five times in 30 s is called without a fallback, and as the last one', async () => {
    const from = fixture.provider.calls;
    await failure(a.prompt('hello', { session_id }));
    fixture.provider.behave(() => ({ status: 403 }));
    await failure(a.prompt('hello', { session_id, model: NEXT[0], fallbacks: [FIRST] }));
    expect(calledModels(from)).toEqual(['claude-first', 'claude-first', 'claude-first', 'claude-next', 'claude-first']);
  });

  it('a model that failed five times in 30 s is called by one prompt at a time after 30 s, and by all once it answers', async () => {
    fixture.clock.advance(30_000);
    const gate = Promise.withResolvers<void>();
    failFirst({ chunks: ['back'], gate: () => gate.promise });
    const seen = fixture.provider.next();
    const probe = a.prompt('probe', { session_id, fallbacks: [...NEXT] });
    expect(await seen).toMatchObject({ model: 'claude-first' });
    const other = await a.prompt('hello', { session_id: `${session_id}-b`, fallbacks: [...NEXT] });
    expect(other.model).toBe(NEXT[0]);
    gate.resolve();
    expect((await probe).model).toBe(FIRST);
    expect(await a.prompt('again', { session_id, fallbacks: [...NEXT] })).toMatchObject({ model: FIRST });
    expect(await a.call(systemHealth, {})).not.toHaveProperty('models_passed_over');
  });
});
