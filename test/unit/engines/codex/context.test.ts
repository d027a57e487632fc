// Codex receives a conversation without blank texts, and less of it once the model finds it too long.

import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Message, Toolset } from '../../../../shared/engines/engine.ts';
import type { EngineEvent } from '../../../../shared/turn-events.ts';
import {
  byPrompt,
  describeCodex,
  type Fixture,
  setUpFixture,
  startConversation,
  textsIn,
} from '../../../support/fixtures/sandbox/codex.ts';

describeCodex('the context of a codex turn', (place) => {
  let fixture: Fixture;
  let engine: ReturnType<Fixture['machine']>;
  beforeAll(async () => {
    fixture = await setUpFixture(place);
    engine = fixture.machine();
  });
  afterAll(() => fixture.close());

  it('the context of a codex turn has no blank message, instructions or result of a tool', async () => {
    const conversation = startConversation();
    conversation.messages.push(
      { role: 'user', content: 'hello' },
      { role: 'assistant', content: ' \n' },
      { role: 'user', content: '\t' },
      { role: 'assistant', content: 'hi' },
    );
    const tools: Toolset = {
      chars: 10,
      tools: [{ name: 'tests__echo', server: 'tests', tool: 'echo', inputSchema: { type: 'object' } }],
      call: async () => ({ content: '\n', isError: false }),
    };
    const { outcome } = await conversation.prompt(engine, 'tool {}', { instructions: ' ', tools });
    expect(outcome.content).toBe('(no output)');
    expect(textsIn(fixture.api.requests.at(-1))).toEqual(['hello', 'hi', 'tool {}']);
    expect(fixture.api.requests.at(-1)?.input.filter(({ text }) => text.trim() === '' && text !== '')).toEqual([]);
  });

  it('the context of a codex turn loses its oldest messages in a new thread until the model accepts it, and continues there', async () => {
    const conversation = startConversation();
    for (let turn = 0; turn < 5; turn++) {
      conversation.messages.push(
        { role: 'user', content: `question ${turn} ${'word '.repeat(400)}` },
        { role: 'assistant', content: `answer ${turn}` },
      );
    }
    const message = 'Your input exceeds the context window of this model. Please adjust your input and try again.';
    fixture.api.behave((request) =>
      textsIn(request).join('').length > 5_000 ? { status: 400, message } : byPrompt(request),
    );
    const { events, outcome } = await conversation.prompt(engine, 'and now?');
    expect(outcome.content).toBe('You said: and now?');
    const trims = trimsOf(events);
    expect(trims.length).toBeGreaterThan(0);
    expect(trims.at(-1)?.trimmed).toBeGreaterThan(4);
    const from = fixture.api.requests.length;
    await conversation.prompt(engine, 'and then?');
    expect(fixture.api.requests.length - from).toBe(1);
    expect(textsIn(fixture.api.requests.at(-1)).slice(-3)).toEqual(['and now?', 'You said: and now?', 'and then?']);
  });

  it('the context of a codex turn ends with an error that names the cause when the prompt alone is too long; the session continues', async () => {
    const conversation = startConversation();
    fixture.api.behave((request) =>
      request.prompt.length > 1_000
        ? { status: 400, message: 'prompt is too long: 9 tokens > 8000 maximum' }
        : { text: 'ok' },
    );
    const error = await conversation.fail(engine, 'long '.repeat(400));
    expect(error).toMatchObject({ retryable: false, data: { detail: 'context_overflow', limit_tokens: 8_000 } });
    conversation.messages.pop();
    expect((await conversation.prompt(engine, 'short')).outcome.content).toBe('ok');
  });

  it('the context of a codex turn is not repeated once the turn has run a command: the turn ends with an error that names the cause', async () => {
    const message = 'Your input exceeds the context window of this model. Please adjust your input and try again.';
    fixture.api.behave((request) =>
      request.toolOutput === undefined ? { call: 'exec_command', args: { cmd: 'true' } } : { status: 400, message },
    );
    const conversation = startConversation();
    conversation.messages.push({ role: 'user', content: 'hello' }, { role: 'assistant', content: 'hi' });
    const from = fixture.api.requests.length;
    const error = await conversation.fail(engine, 'look around');
    expect(error).toMatchObject({ retryable: false, data: { detail: 'context_overflow' } });
    expect(error.message).toMatch(/^The context of the model was full before its answer was complete \(OpenAI: Your/);
    expect(fixture.api.requests.length - from).toBe(2);
  });

  it('the context of a codex turn has the tool calls of another engine’s turns, with a result for each', async () => {
    fixture.api.behave(byPrompt);
    const conversation = startConversation();
    const call = { type: 'tool_call', call_id: 'toolu_1', name: 'math__add', arguments: '{"a":2}' } as const;
    conversation.messages.push(
      { role: 'user', content: 'add' },
      {
        role: 'assistant',
        content: 'Adding. It is 42.',
        model: 'anthropic/claude-sonnet-4-5',
        parts: [
          { type: 'reasoning', text: 'secret thought', metadata: { anthropic: { signature: 'x' } } },
          { type: 'text', text: 'Adding. ' },
          call,
          { type: 'tool_result', call_id: 'toolu_1', name: 'math__add', content: '42', is_error: false },
          { ...call, call_id: 'toolu_2' },
          { type: 'text', text: 'It is 42.' },
        ],
      },
    );
    await conversation.prompt(engine, 'go on');
    const input = fixture.api.requests.at(-1)?.input ?? [];
    const items = input.slice(input.findIndex(({ text }) => text === 'add'));
    expect(items.map(({ type }) => type)).toEqual([
      ...['message', 'message', 'function_call', 'function_call_output'],
      ...['function_call', 'message', 'function_call_output', 'message'],
    ]);
    expect(items.filter(({ type }) => type === 'function_call_output').map(({ text }) => text)).toEqual([
      '42',
      expect.stringContaining('There is no result'),
    ]);
    expect(JSON.stringify(input)).not.toContain('secret thought');
  });

  it('the context of a codex turn has the images of its prompt, and those of earlier prompts of other engines', async () => {
    fixture.api.behave(byPrompt);
    const dot = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==';
    const ask = (content: string): Message => {
      const image = { type: 'image', media_type: 'image/png', data: dot } as const;
      return { role: 'user', content, parts: [{ type: 'text', text: content }, image] };
    };
    const conversation = startConversation();
    conversation.messages.push(ask('what is this?'), { role: 'assistant', content: 'A dot.' });
    await conversation.prompt(engine, 'and this?', { messages: [...conversation.messages, ask('and this?')] });
    const urls = Array(2).fill(`data:image/png;base64,${dot}`);
    const seen = fixture.api.requests.at(-1);
    expect(seen?.images).toEqual(urls);
    expect(seen?.input.map(({ text }) => text)).toEqual(expect.arrayContaining(['what is this?', 'and this?']));
    await conversation.prompt(engine, 'compare them');
    expect(fixture.api.requests.at(-1)?.images).toEqual(urls);
  });

  it('a turn of Codex is stored with its commands, and a new thread receives them from the history', async () => {
    fixture.api.behave(byPrompt);
    const conversation = startConversation();
    await conversation.prompt(engine, 'run echo remember me');
    expect(conversation.messages.at(-1)?.parts).toEqual([
      expect.objectContaining({
        type: 'tool_call',
        name: 'exec_command',
        arguments: expect.stringContaining('echo remember me'),
      }),
      expect.objectContaining({
        type: 'tool_result',
        content: expect.stringMatching(/^Exit code: 0\nremember me/),
        is_error: false,
      }),
      expect.objectContaining({ type: 'text' }),
    ]);
    fixture.state.saved.clear();
    await conversation.prompt(fixture.machine(), 'what did it print?');
    const outputs = fixture.api.requests.at(-1)?.input.filter(({ type }) => type === 'function_call_output');
    expect(outputs?.map(({ text }) => text)).toEqual([expect.stringMatching(/^Exit code: 0\nremember me/)]);
  });

  it('the context of a codex turn has the effort of its turn only, and a warning for other settings', async () => {
    fixture.api.behave(byPrompt);
    const conversation = startConversation();
    const efforts: unknown[] = [];
    for (const reasoning of [undefined, 'low', 'high', undefined] as const) {
      const settings = reasoning && { reasoning, seed: 1 };
      const { outcome } = await conversation.prompt(engine, 'hello', settings && { settings });
      expect(outcome.warnings?.map(({ setting }) => setting)).toEqual(settings && ['seed']);
      efforts.push(fixture.api.requests.at(-1)?.effort);
    }
    expect(efforts.slice(1, 3)).toEqual(['low', 'high']);
    expect(efforts[3]).toBe(efforts[0]);
  });

  it('the context of a codex turn has an effort that its model has, with a warning where another one was given', async () => {
    fixture.api.behave(byPrompt);
    const { outcome } = await startConversation().prompt(engine, 'hello', { settings: { reasoning: 'off' } });
    expect(fixture.api.requests.at(-1)?.effort).toBe('low');
    expect(outcome.warnings).toEqual([
      { setting: 'reasoning', message: expect.stringMatching(/does not support off for .*: the effort is low$/) },
    ]);
  });

  it('the context of a codex turn has the schema of its answer', async () => {
    fixture.api.behave(byPrompt);
    const outputSchema = { type: 'object', properties: {}, additionalProperties: false } as const;
    const { outcome } = await startConversation().prompt(engine, 'hello', { outputSchema });
    expect(fixture.api.requests.at(-1)?.format).toMatchObject({ type: 'json_schema', schema: outputSchema });
    expect(outcome).not.toHaveProperty('warnings');
    await startConversation().prompt(engine, 'hello');
    expect(fixture.api.requests.at(-1)?.format).toBeUndefined();
  });

  it('a schema that OpenAI does not accept as strict is sent to Codex as an instruction, with a warning', async () => {
    fixture.api.behave(byPrompt);
    const outputSchema = { type: 'object', properties: { a: { type: 'integer' } }, not: { required: ['a'] } } as const;
    const { outcome } = await startConversation().prompt(engine, 'hello', { outputSchema });
    expect(fixture.api.requests.at(-1)?.format).toBeUndefined();
    expect(fixture.api.requests.at(-1)?.prompt).toContain('Answer only with JSON that matches this JSON Schema');
    expect(outcome.warnings).toEqual([
      { setting: 'output_schema', message: expect.stringMatching(/strict.* as an instruction instead$/) },
    ]);
  });
});

function trimsOf(events: readonly EngineEvent[]) {
  return events.flatMap((event) => ('ContextTrimmed' in event ? [event.ContextTrimmed] : []));
}
