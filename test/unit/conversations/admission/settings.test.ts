// The settings of a prompt are validated before anything is charged and are part of the idempotency key. The answer
// names those that its model does not support.
import { afterEach, beforeEach, expect, it } from 'vitest';
import { conversationHistory } from '../../../../shared/methods/conversation.history.ts';
import { conversationPrompt } from '../../../../shared/methods/conversation.prompt.ts';
import { checkParams } from '../../../../shared/rpc/params/issues.ts';
import { createFixture, type Fixture, failure, type Instance } from '../../../support/fixtures/turns/conversations.ts';

let fixture: Fixture;
let a: Instance;
beforeEach(async () => {
  fixture = await createFixture();
  a = await fixture.instance();
});
afterEach(() => fixture.close());

it.each([
  [{ temperature: 3 }, 'settings.temperature', 'settings.temperature must be at most 2'],
  [{ top_p: -1 }, 'settings.top_p', 'settings.top_p must be at least 0'],
  [{ max_output_tokens: 0 }, 'settings.max_output_tokens', 'settings.max_output_tokens must be at least 1'],
  [{ max_output_tokens: 1.5 }, 'settings.max_output_tokens', expect.stringContaining('integer')],
  [{ stop: ['a', 'b', 'c', 'd', 'e'] }, 'settings.stop', expect.stringContaining('at most 4')],
  [{ stop: [''] }, 'settings.stop.0', expect.any(String)],
  [{ seed: -1 }, 'settings.seed', 'settings.seed must be at least 0'],
  [{ reasoning: 'maximal' }, 'settings.reasoning', expect.stringContaining('off')],
  [{ temprature: 1 }, 'settings.temprature', 'settings.temprature is not known, did you mean settings.temperature?'],
  ['warm', 'settings', expect.stringContaining('object')],
])('settings are refused where they are wrong: %j', (settings, path, message) => {
  const checked = checkParams(conversationPrompt.params, { prompt: 'hi', settings });
  expect(checked).toEqual({ issues: [{ path, message }] });
});

it('settings are part of the params that an idempotency key compares', async () => {
  const key = { idempotency_key: 'k', settings: { temperature: 0.5, seed: 1 } };
  const first = await a.prompt('hello', key);
  const again = await a.prompt('hello', { ...key, settings: { seed: 1, temperature: 0.5 } });
  expect(again).toEqual(first);
  for (const settings of [undefined, { temperature: 0.5 }]) {
    const refused = await failure(a.prompt('hello', { idempotency_key: 'k', settings }));
    expect(refused.reason).toBe('invalid_params');
  }
  expect(fixture.provider.calls).toBe(1);
});

it('settings that the model does not support are named in the answer and in its last event', async () => {
  const warnings = [{ setting: 'seed', message: 'Anthropic does not support it' }];
  const stream = a.stream('hello', { settings: { seed: 1, temperature: 0.5 } });
  const answer = await stream.answer;
  expect(answer.warnings).toEqual(warnings);
  expect(stream.events.at(-1)?.event).toMatchObject({ TaskComplete: { warnings } });
  expect(await a.prompt('hello')).not.toHaveProperty('warnings');
});

const SCHEMA = { type: 'object', properties: { a: { type: 'integer' } }, required: ['a'] };

it('an answer with a schema is also parsed, in the event of its end, for a duplicate and for a reader', async () => {
  fixture.provider.behave(() => ({ text: '{"a": 1}' }));
  const params = { idempotency_key: 'k', output_schema: SCHEMA };
  const answer = await a.prompt('hello', params);
  expect(answer).toMatchObject({ content: '{"a": 1}', output: { a: 1 } });
  expect(await a.prompt('hello', params)).toEqual(answer);
  expect((await failure(a.prompt('hello', { idempotency_key: 'k' }))).reason).toBe('invalid_params');
  fixture.provider.behave(() => ({ text: 'plain' }));
  expect(await a.prompt('hello')).not.toHaveProperty('output');
});

it('an answer that does not match its schema is an error with the issues; its text is in the history', async () => {
  fixture.provider.behave(() => ({ text: '{"a": "x"}' }));
  const refused = await failure(a.prompt('hello', { output_schema: SCHEMA }));
  expect(refused).toMatchObject({
    reason: 'upstream_error',
    message: 'The answer does not match output_schema',
    data: { issues: [{ path: 'output.a', message: expect.stringContaining('expected') }] },
  });
  const { messages } = await a.call(conversationHistory, { session_id: 's' });
  expect(messages.at(-1)).toMatchObject({ content: '{"a": "x"}', partial: true });
});

it('a schema that cannot be checked is refused before the prompt is charged', () => {
  const checked = checkParams(conversationPrompt.params, { prompt: 'hi', output_schema: { type: 'list' } });
  const message =
    'output_schema is not a JSON Schema: type must be string, number, integer, boolean, object, array or null';
  expect(checked).toEqual({ issues: [{ path: 'output_schema', message }] });
});

it('a schema may be true or false', async () => {
  fixture.provider.behave(() => ({ text: '{"value": [1]}' }));
  expect(await a.prompt('hello', { output_schema: true })).toMatchObject({ output: [1] });
  expect((await failure(a.prompt('hello', { output_schema: false }))).message).toContain('does not match');
  const checked = checkParams(conversationPrompt.params, { prompt: 'hi', output_schema: 5 });
  expect(checked).toMatchObject({ issues: [{ path: 'output_schema', message: expect.stringMatching(/must be/) }] });
});

it.each([
  {
    what: 'a list',
    schema: { type: 'array', items: { type: 'integer' } },
    ...{ chunks: ['{"va', 'lue" : [1, ', '2]', ' }\n'], content: '[1, 2] \n', output: [1, 2] },
  },
  {
    what: 'a text with braces',
    schema: { type: 'string' },
    ...{ chunks: ['{"value":"a } b', ' {"', '}'], content: '"a } b {"', output: 'a } b {' },
  },
  {
    what: 'no object around it',
    schema: { type: 'array' },
    ...{ chunks: ['[1', ', {"a":1}]'], content: '[1, {"a":1}]', output: [1, { a: 1 }] },
  },
  {
    what: 'text before it',
    schema: { type: 'array' },
    ...{ chunks: ['So: {', '"value":[true]}'], content: 'So: [true]', output: [true] },
  },
])('an answer to a schema without an object at its root is sent as such: $what', async (row) => {
  fixture.provider.behave(() => ({ chunks: row.chunks }));
  const stream = a.stream('hello', { output_schema: row.schema });
  const { content, output } = await stream.answer;
  expect({ content, output }).toEqual({ content: row.content, output: row.output });
  const deltas = stream.events.map(({ event }) => ('AgentMessageDelta' in event ? event.AgentMessageDelta.delta : ''));
  expect(deltas.join('')).toBe(content);
  expect(JSON.stringify(fixture.provider.requests.at(-1)?.body)).toContain('"properties":{"value":{"type":');
  const { messages } = await a.call(conversationHistory, { session_id: 's' });
  expect(messages.at(-1)).toMatchObject({ content });
});
