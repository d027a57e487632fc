// A conversation that is too long for its model is sent again, shorter, when the provider reports that before the first
// token.

import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Message, Toolset } from '../../../../shared/engines/engine.ts';
import { isOverflow, limitOf } from '../../../../shared/engines/failures/overflow.ts';
import { estimateTextTokens } from '../../../../shared/messages/estimate-tokens.ts';
import type { EngineEvent } from '../../../../shared/turn-events.ts';
import { type ModelProvider, startModelProvider } from '../../../support/fakes/model-provider/model-provider.ts';
import { CASES, createTestEngine, failTurn, runTurn } from '../../../support/fixtures/turns/engines.ts';

let provider: ModelProvider;
beforeAll(async () => {
  provider = await startModelProvider();
});
afterEach(() => provider.behave());
afterAll(() => provider.close());

const FORMS: readonly (readonly [string, number | undefined])[] = [
  ['prompt is too long: 213462 tokens > 200000 maximum', 200_000],
  ['input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000, decrease input length', 200_000],
  ["This model's maximum context length is 128000 tokens. However, your messages resulted in 130000 tokens.", 128_000],
  ['Your input exceeds the context window of this model. Please adjust your input and try again.', undefined],
  ['The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).', 1_048_576],
  ['Unable to submit request because the input token count is 40000 but the model only supports up to 32768.', 32_768],
  ['the request exceeds the available context size (8192 tokens), try increasing it', 8_192],
  ['request (9123 tokens) exceeds the available context size (8192 tokens), try increasing it', 8_192],
  ['Context size has been exceeded.', undefined],
  [
    'Trying to keep the first 9000 tokens when context the overflows. However, the model is loaded with context length of only 4096 tokens',
    4_096,
  ],
  ['The number of tokens to keep from the initial prompt is greater than the context length.', undefined],
  ["This model's maximum prompt length is 131072 but the request contains 537812 tokens.", 131_072],
  ['Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum context length', 32_768],
  [
    "This model's maximum context length is 2048 tokens. However, your prompt contains at least 2049 input tokens, which exceeds this limit even without any output tokens. Please reduce the length of the input prompt. (parameter=input_tokens, value=2049)",
    2_048,
  ],
  ['Please reduce the length of the messages or completion.', undefined],
  ['Input is too long for requested model.', undefined],
  ['the input length exceeds the context length', undefined],
  ['context_length_exceeded', undefined],
];

it.each(FORMS)('an overflow is recognised, with its limit: %j', (message, limit) => {
  expect(isOverflow(message)).toBe(true);
  expect(limitOf(message)).toBe(limit);
});

it('a refusal by rate counts as an overflow when the request alone exceeds the rate', () => {
  const message =
    'Request too large for gpt-5 in organization o on tokens per min (TPM): Limit 30000, Requested 40000.';
  expect(isOverflow(message, 429)).toBe(true);
  expect(limitOf(message)).toBe(30_000);
  expect(isOverflow('Rate limit reached on tokens per min: Limit 30000, Used 25000, Requested 8000.', 429)).toBe(false);
});

it.each([
  'max_tokens: 64000 > 32000, which is the maximum allowed number of output tokens',
  'Rate limit reached for tokens per min (TPM): Limit 10000, Requested 15000',
  'messages: text content blocks must contain non-whitespace text',
  'model not found',
])('the message %j is not mistaken for an overflow', (message) => expect(isOverflow(message)).toBe(false));

it.each([
  ['English', 'It was the best of times, it was the worst of times. '.repeat(100), 3, 4.5],
  [
    'base64',
    Buffer.from(Array.from({ length: 3_000 }, (_, index) => (index * 7_919) % 251)).toString('base64'),
    1.3,
    2,
  ],
  ['hex', 'deadbeef01234567'.repeat(100), 1.3, 2],
  ['minified code', 'function(a,b){return a.c(b)?d[e]:f.g;}'.repeat(50), 1.3, 2],
  ['Japanese', '吾輩は猫である。名前はまだ無い。'.repeat(20), 0.4, 1],
])('the characters a token are estimated for %s', (_name, text, min, max) => {
  const chars = text.length / estimateTextTokens(text);
  expect(chars).toBeGreaterThanOrEqual(min);
  expect(chars).toBeLessThanOrEqual(max);
});

/** Refuses what is more than so many characters as this wire's provider would. */
function limitTo(chars: number, message = `prompt is too long: 9999 tokens > ${chars} maximum`): number[] {
  const sizes: number[] = [];
  provider.behave((request) => {
    const size = JSON.stringify(request.body).length;
    sizes.push(size);
    return size > chars ? { status: 400, message, code: 'context_length_exceeded' } : { text: 'fits' };
  });
  return sizes;
}

function trims(events: readonly EngineEvent[]) {
  return events.flatMap((event) => ('ContextTrimmed' in event ? [event.ContextTrimmed] : []));
}

const HISTORY: readonly Message[] = Array.from({ length: 20 }, (_, index) => ({
  role: index % 2 === 0 ? 'user' : 'assistant',
  content: `${index} ${'word '.repeat(600)}`,
}));
const PROMPT: Message = { role: 'user', content: 'and now?' };

describe.each(CASES)('$provider', ({ model, label }) => {
  it('a request that is too long is repeated with a quarter less each time, from a message of the user on', async () => {
    const sizes = limitTo(30_000, 'Your input exceeds the context window of this model.');
    const { outcome, events } = await runTurn(createTestEngine(provider), { model, messages: [...HISTORY, PROMPT] });
    expect(outcome.content).toBe('fits');
    const steps = trims(events);
    expect(sizes).toHaveLength(steps.length + 1);
    expect(steps.length).toBeGreaterThan(1);
    for (const [index, step] of steps.entries()) {
      expect(step.trimmed % 2).toBe(0);
      expect(step.messages + step.trimmed).toBe(21);
      const before = sizes[index] ?? 0;
      expect((sizes[index + 1] ?? 0) / before).toBeLessThan(0.8);
      expect((sizes[index + 1] ?? 0) / before).toBeGreaterThan(0.5);
    }
    expect(events[steps.length]).toEqual({ AgentMessageDelta: { delta: 'fits' } });
  });

  it('a request that is too long is repeated once only when the provider has named its limit', async () => {
    const sizes = limitTo(30_000, 'prompt is too long: 20000 tokens > 6000 maximum');
    await runTurn(createTestEngine(provider), { model, messages: [...HISTORY, PROMPT] });
    expect(sizes).toHaveLength(2);
  });

  it('a turn ends with an error that names the limit when the prompt alone is too long', async () => {
    const sizes = limitTo(2_000);
    const prompt = 'long '.repeat(1_000);
    const { error } = await failTurn(createTestEngine(provider), { model, prompt });
    expect(error).toMatchObject({
      reason: 'upstream_error',
      retryable: false,
      data: { limit_tokens: 2_000, detail: 'context_overflow' },
    });
    expect(error.message).toMatch(
      /^The prompt, without any earlier message, does not fit .* takes at most 2000 tokens/,
    );
    expect(error.message).toContain(`${label}: prompt is too long`);
    expect(sizes).toHaveLength(1);
  });

  it('a request is not repeated once a part of the answer was sent: the error of the turn names the cause', async () => {
    const message =
      'input length and `max_tokens` exceed context limit: 188240 + 21333 > 200000, decrease input length';
    provider.behave(() => ({ chunks: ['Hello ', 'there'], streamError: 'middle', message }));
    const before = provider.calls;
    const messages = [...HISTORY, PROMPT];
    const { error, events } = await failTurn(createTestEngine(provider), { model, messages });
    expect(events).toEqual([{ AgentMessageDelta: { delta: 'Hello ' } }]);
    expect(provider.calls - before).toBe(1);
    expect(error).toMatchObject({
      reason: 'upstream_error',
      message: `The context of the model was full before its answer was complete (${label}: ${message})`,
      retryable: false,
      data: { detail: 'context_overflow', limit_tokens: 200_000 },
    });
  });

  it('no tool runs twice when its result is what makes the conversation too long', async () => {
    let runs = 0;
    const tools: Toolset = {
      chars: 10,
      tools: [{ name: 'read', server: 's', tool: 'read', inputSchema: { type: 'object' } }],
      async call() {
        runs++;
        return { content: 'line '.repeat(3_000), isError: false };
      },
    };
    provider.behave((request) => {
      if (request.toolResults.length === 0) return { text: '', toolCall: { name: 'read', arguments: {} } };
      const isLong = JSON.stringify(request.body).length > 40_000;
      return isLong ? { status: 400, message: 'prompt is too long: 2 tokens > 1 maximum' } : { text: 'read it' };
    });
    const { outcome, events } = await runTurn(createTestEngine(provider), {
      model,
      messages: [...HISTORY, PROMPT],
      tools,
    });
    expect(outcome.content).toBe('read it');
    expect(runs).toBe(1);
    expect(trims(events).length).toBeGreaterThan(0);
  });
});

it.each([
  ['OpenAI refuses as above the rate', 'openai/gpt-5', { status: 429, message: 'Request too large for gpt-5 on TPM' }],
  [
    'leaves no room for an answer',
    'anthropic/claude-sonnet-4-5',
    {
      body: [
        { type: 'message_start', message: { usage: { input_tokens: 200_000 } } },
        { type: 'message_delta', delta: { stop_reason: 'model_context_window_exceeded' } },
        { type: 'message_stop' },
      ]
        .map((event) => `data: ${JSON.stringify(event)}\n\n`)
        .join(''),
    },
  ],
])('a conversation that %s is shortened', async (_name, model, refusal) => {
  provider.behave((request) => (request.messages > 5 ? refusal : { text: 'fits' }));
  const { outcome, events } = await runTurn(createTestEngine(provider), { model, messages: [...HISTORY, PROMPT] });
  expect(outcome.content).toBe('fits');
  expect(trims(events).length).toBeGreaterThan(0);
});

it('an overflow within a stream, before its first token, is handled like one before it', async () => {
  const error = { code: 'context_length_exceeded', message: 'Your input exceeds the context window of this model.' };
  const body = `data: ${JSON.stringify({ type: 'response.failed', response: { error } })}\n\n`;
  provider.behave((request) => (request.messages > 5 ? { body } : { text: 'fits' }));
  const { outcome } = await runTurn(createTestEngine(provider), {
    model: 'openai/gpt-5',
    messages: [...HISTORY, PROMPT],
  });
  expect(outcome.content).toBe('fits');
});
