// Every failure of a model, before and after its answer has begun, with every kind of model next: which ones are
// followed by the next model, and what the caller, the history and the log receive. The models are on real sockets in
// the wire formats of their providers; Codex is the real program.
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Config } from '../../../shared/config/config.ts';
import type { Engine, Engines } from '../../../shared/engines/engine.ts';
import { createEngines } from '../../../shared/engines/engines.ts';
import { conversationHistory } from '../../../shared/methods/conversation.history.ts';
import type { Script } from '../../support/fakes/model-provider-script.ts';
import {
  byPrompt,
  MODEL as CODEX,
  type Fixture as CodexFixture,
  setUpFixture,
  textsIn,
} from '../../support/fixtures/codex.ts';
import {
  createFixture,
  type Fixture,
  failure,
  type Instance,
  isDelta,
  type Stream,
} from '../../support/fixtures/conversations.ts';
import { describeWith } from '../../support/requirements.ts';

const SAME = 'anthropic/claude-next';
const OTHER = 'openai/gpt-next';
const CHUNKS = ['one ', 'two ', 'three ', 'four '];

interface Cell {
  readonly name: string;
  readonly script: Script;
  /** The models that may follow. */
  readonly followedBy: readonly string[];
  /** The error where none follows. */
  readonly error: { readonly reason: string; readonly status?: number; readonly retryable: boolean };
  readonly isBegun: boolean;
}

/** `retryable`: for the caller, where no other model follows. */
function before(name: string, script: Script, followedBy: readonly string[], error: Cell['error']): Cell {
  return { name: `${name}, before its answer`, script, followedBy, error, isBegun: false };
}

function after(name: string, script: Script, error: Cell['error']): Cell {
  return { name: `${name}, within its answer`, script, followedBy: [], error, isBegun: true };
}

const ALL = [SAME, OTHER, CODEX];
const OTHER_ACCOUNTS = [OTHER, CODEX];
const failed = (status: number | undefined, retryable: boolean, reason = 'upstream_error'): Cell['error'] => ({
  reason,
  ...(status !== undefined && { status }),
  retryable,
});
const within = (errorStatus: number): Script => {
  const message = errorStatus === 404 ? 'no such model' : 'error event as asked';
  return { chunks: CHUNKS, streamError: 'middle', errorStatus, message };
};

const CELLS: readonly Cell[] = [
  before('401', { status: 401 }, OTHER_ACCOUNTS, failed(401, false)),
  before('404, no such model', { status: 404 }, ALL, failed(404, false, 'invalid_params')),
  before('429', { status: 429, headers: { 'retry-after': '20' } }, ALL, failed(429, true)),
  before('500', { status: 500 }, ALL, failed(500, true)),
  before('529', { status: 529 }, ALL, failed(529, true)),
  before('an error event', { streamError: 'first' }, ALL, failed(529, true)),
  before('a hang', { hang: 'headers' }, ALL, failed(undefined, true, 'upstream_timeout')),
  before('a cut', { cut: 'socket', cutAtOnce: true }, ALL, failed(undefined, true)),
  before('an early end', { cut: 'end', cutAtOnce: true }, ALL, failed(undefined, true)),
  before(
    'an empty account',
    { status: 400, message: 'Your credit balance is too low' },
    OTHER_ACCOUNTS,
    failed(400, false),
  ),
  before('a web page', { body: '<html>nginx</html>' }, OTHER_ACCOUNTS, failed(200, false)),
  before('a refusal', { end: 'refusal', text: '' }, [], failed(undefined, false)),
  before('an invalid request', { status: 400 }, [], failed(400, false)),
  after('401', within(401), failed(401, false)),
  after('404', within(404), failed(404, false, 'invalid_params')),
  after('429', within(429), failed(429, true)),
  after('500', within(500), failed(500, true)),
  after('529', within(529), failed(529, true)),
  after('a hang', { chunks: CHUNKS, hang: 'stream' }, failed(undefined, true, 'upstream_timeout')),
  after('a cut', { chunks: CHUNKS, cut: 'socket' }, failed(undefined, true)),
  after('an early end', { chunks: CHUNKS, cut: 'end' }, failed(undefined, true)),
];

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
const idOf = ({ name }: Cell, next: string): string => `claude ${name} ${next}`.replaceAll(/\W+/g, '-');
const SCRIPTS = new Map(CELLS.flatMap((cell) => ALL.map((next) => [idOf(cell, next), cell.script] as const)));

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
  cell: Cell,
  next: string,
): { readonly stream: Stream; readonly params: Record<'session_id' | 'model', string> } {
  const id = idOf(cell, next);
  const params = { session_id: id, model: `anthropic/${id}`, idempotency_key: id };
  return { params, stream: a.stream(`hello ${id}`, { ...params, fallbacks: [next] }) };
}

function describeNext(next: string): void {
  const answer = next === CODEX ? /^You said: hello/ : /^from/;

  it.each(CELLS.filter(({ followedBy }) => followedBy.includes(next)))('follows $name', async (cell) => {
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
  });

  it.each(CELLS.filter(({ followedBy }) => !followedBy.includes(next)))('does not follow $name', async (cell) => {
    const { stream, params } = start(cell, next);
    const { reason, retryable, data } = await failure(stream.answer);
    const { status } = cell.error;
    expect({ reason, retryable }).toEqual({ reason: cell.error.reason, retryable: cell.error.retryable });
    expect(data).toMatchObject({ provider: 'anthropic', model: params.model, ...(status !== undefined && { status }) });
    const [begin] = stream.events;
    expect(begin).toMatchObject({ seq: 1, event: { TaskStarted: { model: params.model } } });
    expect(JSON.stringify(begin)).not.toContain('fallback_from');
    expect(stream.events.at(-1)?.event).toMatchObject({ Error: { reason } });
    expect(stream.events.some(isDelta)).toBe(cell.isBegun);
    expect(calls(next, params.session_id)).toBe(0);
  });
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
  ])('is followed by a model of another account after %s', async (prompt, reason) => {
    const session_id = `codex ${prompt}`.replaceAll(' ', '-');
    const answer = await a.prompt(prompt, { session_id, model: CODEX, fallbacks: [OTHER, SAME] });
    const others = prompt === 'status 401' ? SAME : OTHER;
    expect(answer).toMatchObject({ model: others });
    expect(answer.events[0]).toMatchObject({
      TaskStarted: { model: others, fallback_from: [{ model: CODEX, reason }] },
    });
  });

  it('knows afterwards what a fallback has answered in its place', async () => {
    const session = { session_id: 'codex-again', model: CODEX };
    const { content } = await a.prompt('status 403', { ...session, fallbacks: [SAME] });
    await a.prompt('hello again', session);
    expect(textsIn(codex?.api.requests.at(-1))).toEqual(['status 403', content, 'hello again']);
  });

  it('is followed after a hang, which ends its turn', async () => {
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

  it('is not followed once its answer has begun', async () => {
    const stream = a.stream('cut half', { session_id: 'codex-cut', model: CODEX, fallbacks: [SAME] });
    expect(await failure(stream.answer)).toMatchObject({ data: { provider: 'codex', model: CODEX } });
    expect(stream.events[0]?.event).toMatchObject({ TaskStarted: { model: CODEX } });
  });
});
