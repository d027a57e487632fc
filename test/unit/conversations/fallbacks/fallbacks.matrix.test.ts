// Each failure of a model is followed by the next model only where another one may answer, and the caller, the history
// and the log receive what belongs to that. The suite combines every failure, before and after the answer has begun,
// with every kind of next model. The models are on real sockets in the wire formats of their providers; Codex is the
// real program.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Config } from '../../../../shared/config/config.ts';
import type { Engine, Engines } from '../../../../shared/engines/engine.ts';
import { createEngines } from '../../../../shared/engines/engines.ts';
import { conversationHistory } from '../../../../shared/methods/conversation.history.ts';
import {
  byPrompt,
  MODEL as CODEX,
  type Fixture as CodexFixture,
  setUpFixture,
  textsIn,
} from '../../../support/fixtures/sandbox/codex.ts';
import {
  createFixture,
  type Fixture,
  failure,
  type Instance,
  isDelta,
  type Stream,
} from '../../../support/fixtures/turns/conversations.ts';
import { MODEL_FAILURES, type ModelFailure } from '../../../support/fixtures/turns/model-failures.ts';
import { describeWith } from '../../../support/requirements.ts';

const SAME = 'anthropic/claude-next';
const OTHER = 'openai/gpt-next';
const ALL = [SAME, OTHER, CODEX];
/** By the part that has failed: the models that may follow. */
const FOLLOWED_BY: Readonly<Record<ModelFailure['failed'], readonly string[]>> = {
  model: ALL,
  account: [OTHER, CODEX],
  request: [],
};
const isFollowed = ({ failed, isBegun }: ModelFailure, next: string): boolean =>
  !isBegun && FOLLOWED_BY[failed].includes(next);

let fixture: Fixture;
let codex: CodexFixture | undefined;
let machine: Engine | undefined;
let a: Instance;
beforeAll(async () => {
  fixture = await createFixture({ engines: openEngines });
  fixture.provider.behave(({ model }) => SCRIPTS.get(model) ?? { text: `from ${model}` });
  a = await fixture.instance({ OPENAI_API_KEY: 'sk-other', OPENAI_BASE_URL: fixture.provider.url });
});
afterAll(async () => {
  await fixture.close();
  await codex?.close();
});

/** A model of its own for each cell and next model, so that none is passed over for the failures of another cell. */
const idOf = ({ name }: ModelFailure, next: string): string => `claude ${name} ${next}`.replaceAll(/\W+/g, '-');
const SCRIPTS = new Map(MODEL_FAILURES.flatMap((cell) => ALL.map((next) => [idOf(cell, next), cell.script] as const)));

/** Only models that hang have a short deadline. */
function openEngines(config: Config): Engines {
  const retryMs = 1;
  const patient = createEngines(config, { direct: { retryMs } });
  const first = createEngines(config, { direct: { retryMs, deadlines: { firstByteMs: 300 } } });
  const later = createEngines(config, { direct: { retryMs, deadlines: { idleMs: 1_000 } } });
  return {
    ...patient,
    resolve(model = '', credential) {
      if (model.startsWith('codex/') && machine !== undefined) return { engine: machine, model };
      const engines = model.includes('hang-before') ? first : model.includes('hang-within') ? later : patient;
      return engines.resolve(model, credential);
    },
  };
}

/** A session of its own for each cell. */
function start(
  cell: ModelFailure,
  next: string,
): { readonly stream: Stream; readonly params: Record<'session_id' | 'model', string> } {
  const id = idOf(cell, next);
  const params = { session_id: id, model: `anthropic/${id}`, idempotency_key: id };
  return { params, stream: a.stream(`hello ${id}`, { ...params, fallbacks: [next] }) };
}

function describeNext(next: string): void {
  const answer = next === CODEX ? /^You said: hello/ : /^from/;

  it.each(MODEL_FAILURES.filter((cell) => isFollowed(cell, next)))(
    'a failure is followed by the next model: $name',
    async (cell) => {
      const { stream, params } = start(cell, next);
      const answered = await stream.answer;
      const fallback_from = [expect.objectContaining({ model: params.model, reason: cell.error.reason })];
      expect(answered).toMatchObject({ model: next, content: expect.stringMatching(answer) });
      expect(answered.usage.output_tokens).toBeGreaterThan(0);
      expect(answered.events.filter((event) => !('AgentReasoning' in event))).toEqual([
        { TaskStarted: expect.objectContaining({ model: next, fallback_from }) },
        { AgentMessage: { message: answered.content } },
        { TaskComplete: expect.objectContaining({ usage: answered.usage }) },
      ]);
      expect(stream.events.map(({ seq }) => seq)).toEqual(stream.events.map((_, index) => index + 1));
      const { messages } = await a.call(conversationHistory, { session_id: params.session_id });
      expect(messages).toMatchObject([{ role: 'user' }, { role: 'assistant', model: next, content: answered.content }]);
      expect(messages).toHaveLength(2);
      const lines = a.logged.filter((line) => line.includes(`"model":"${params.model}"`));
      expect(lines).toEqual([expect.stringContaining(`"next":"${next}"`)]);
    },
  );

  it.each(MODEL_FAILURES.filter((cell) => !isFollowed(cell, next)))(
    'a failure is not followed by another model: $name',
    async (cell) => {
      const { stream, params } = start(cell, next);
      const { reason, retryable, data } = await failure(stream.answer);
      const { status } = cell.error;
      expect({ reason, retryable }).toEqual({ reason: cell.error.reason, retryable: cell.error.retryable });
      expect(data).toMatchObject({
        provider: 'anthropic',
        model: params.model,
        ...(status !== undefined && { status }),
      });
      const [begin] = stream.events;
      expect(begin).toMatchObject({ seq: 1, event: { TaskStarted: { model: params.model } } });
      expect(JSON.stringify(begin)).not.toContain('fallback_from');
      expect(stream.events.at(-1)?.event).toMatchObject({ Error: { reason } });
      expect(stream.events.some(isDelta)).toBe(cell.isBegun);
      expect(calls(next, params.session_id)).toBe(0);
    },
  );
}

/** Calls of the next model with the prompt of this session. */
function calls(next: string, id: string): number {
  const prompts = next === CODEX ? (codex?.api.requests ?? []) : fixture.provider.requests;
  return prompts.filter(({ model, prompt }) => next.endsWith(`/${model}`) && prompt.includes(id)).length;
}

describe('the next model of the same provider', () => describeNext(SAME));
describe('a model of another provider', () => describeNext(OTHER));
describeWith('codex', 'Codex', () => {
  beforeAll(async () => {
    codex = await setUpFixture();
    machine = codex.machine();
  });
  describeNext(CODEX);

  it.each([
    ['status 404 of this model', 'invalid_params'],
    ['status 429', 'upstream_error'],
    ['status 500', 'upstream_error'],
    ['status 401', 'upstream_error'],
  ])('Codex is followed by a model of another account after %s', async (prompt, reason) => {
    const session_id = `codex ${prompt}`.replaceAll(' ', '-');
    const answer = await a.prompt(prompt, { session_id, model: CODEX, fallbacks: [OTHER, SAME] });
    const others = prompt === 'status 401' ? SAME : OTHER;
    expect(answer).toMatchObject({ model: others });
    expect(answer.events[0]).toMatchObject({
      TaskStarted: { model: others, fallback_from: [{ model: CODEX, reason }] },
    });
  });

  it('a model receives in its next turn what a fallback has answered', async () => {
    const session = { session_id: 'codex-again', model: CODEX };
    const { content } = await a.prompt('status 403', { ...session, fallbacks: [SAME] });
    await a.prompt('hello again', session);
    expect(textsIn(codex?.api.requests.at(-1))).toEqual(['status 403', content, 'hello again']);
  });

  it('Codex is followed by the next model after a hang, which ends its turn', async () => {
    const hung = codex?.api.next();
    codex?.api.behave(() => ({ text: [], gate: new Promise(() => {}) }));
    const openAi = { OPENAI_API_KEY: 'sk-other', OPENAI_BASE_URL: fixture.provider.url };
    const impatient = await fixture.instance({ ...openAi, GATEWAY_TURN_TIMEOUT_MS: '8000' });
    const answer = await impatient.prompt('hang', { session_id: 'codex-hang', model: CODEX, fallbacks: [SAME] });
    codex?.api.behave(byPrompt);
    expect(answer.events[0]).toMatchObject({
      TaskStarted: { model: SAME, fallback_from: [{ model: CODEX, reason: 'upstream_timeout' }] },
    });
    expect(await (await hung)?.ended).toBe('client');
  });

  it('Codex is not followed by another model once its answer has begun', async () => {
    const stream = a.stream('cut half', { session_id: 'codex-cut', model: CODEX, fallbacks: [SAME] });
    expect(await failure(stream.answer)).toMatchObject({ data: { provider: 'codex', model: CODEX } });
    expect(stream.events[0]?.event).toMatchObject({ TaskStarted: { model: CODEX } });
  });
});
