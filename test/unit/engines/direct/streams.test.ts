// Streams that differ from what the SDK expects are read: unknown kinds of events, and servers that omit optional
// fields.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { createStreamRepair } from '../../../../shared/engines/direct/repair/stream-repair.ts';
import type { Toolset } from '../../../../shared/engines/engine.ts';
import { type ModelProvider, startModelProvider } from '../../../support/fakes/model-provider/model-provider.ts';
import { CASES, createTestEngine, runTurn } from '../../../support/fixtures/turns/engines.ts';

let provider: ModelProvider;
beforeAll(async () => {
  provider = await startModelProvider();
});
afterEach(() => provider.behave());
afterAll(() => provider.close());

const [ANTHROPIC, OPENAI, GOOGLE] = CASES;

function stored(name: string): string {
  return readFileSync(join(import.meta.dirname, '../../../support/fakes/streams', name), 'utf8');
}

function sse(...events: readonly object[]): string {
  return events.map((event) => `data: ${JSON.stringify(event)}\n\n`).join('');
}

const HELLO_ITEM = { type: 'message', id: 'm', role: 'assistant', content: [{ type: 'output_text', text: 'Hello' }] };
const COMPLETED = {
  type: 'response.completed',
  response: { status: 'completed', usage: { input_tokens: 3, output_tokens: 1 } },
};

/** Each stream contains `Hello` or `Hello there`, and ends. */
const STREAMS: readonly (readonly [name: string, model: string, body: string, answer: string])[] = [
  ['an unknown event and delta', ANTHROPIC.model, stored('anthropic-unknown-event.sse'), 'Hello there'],
  [
    'an unknown block, with text deltas of its own',
    ANTHROPIC.model,
    sse(
      { type: 'message_start', message: { usage: {}, content: [{ type: 'sparkle' }], container: 5 } },
      { type: 'content_block_start', index: 0, content_block: { type: 'sparkle', glow: 1 } },
      { type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text: 'not this' } },
      { type: 'content_block_stop', index: 0 },
      { type: 'content_block_start', index: 1, content_block: { type: 'text' } },
      { type: 'content_block_delta', index: 1, delta: { type: 'text_delta', text: 'Hello' } },
      { type: 'content_block_stop', index: 1 },
      { type: 'message_delta', delta: { stop_reason: 'end_turn', container: 'new' }, context_management: { edits: 1 } },
      { type: 'message_stop' },
    ),
    'Hello',
  ],
  [
    'text in the start of its block, and members that are null or of another type',
    ANTHROPIC.model,
    sse(
      { type: 'message_start', message: { id: null, model: 5, role: 'model', usage: { input_tokens: '3' } } },
      { type: 'content_block_start', index: 0, content_block: { type: 'thinking', thinking: null } },
      { type: 'content_block_delta', index: 0, delta: { type: 'thinking_delta', thinking: null } },
      { type: 'content_block_stop', index: 0 },
      { type: 'content_block_start', index: 1, content_block: { type: 'text', text: 'Hel' } },
      { type: 'content_block_delta', index: 1, delta: { type: 'text_delta' } },
      { type: 'content_block_delta', index: 1, delta: { type: 'text_delta', text: 'lo' } },
      { type: 'content_block_stop', index: 1 },
      { type: 'message_delta', delta: { stop_reason: 'end_turn', stop_sequence: 5 }, usage: { output_tokens: null } },
      { type: 'message_stop' },
    ),
    'Hello',
  ],
  [
    'no line end behind its last event',
    ANTHROPIC.model,
    stored('anthropic-unknown-event.sse').trimEnd(),
    'Hello there',
  ],
  ['hardly a member', OPENAI.model, stored('responses-sparse.sse'), 'Hello'],
  [
    'members that are null or of another type',
    OPENAI.model,
    sse(
      { type: 'response.created', response: { id: null, model: null, created_at: 'now' } },
      { type: 'response.output_text.delta', delta: 'Hello' },
      { type: 'response.completed', response: { usage: { input_tokens: '3', output_tokens: null } } },
    ),
    'Hello',
  ],
  [
    'an end of its own kind',
    OPENAI.model,
    sse(
      { type: 'response.output_text.delta', delta: 'Hello' },
      { type: 'response.done', response: { status: 'completed' } },
    ),
    'Hello',
  ],
  [
    'its text only at the end of the content part',
    OPENAI.model,
    sse({ type: 'response.content_part.done', part: { type: 'output_text', text: 'Hello' } }, COMPLETED),
    'Hello',
  ],
  [
    'its text as the whole content of an item',
    OPENAI.model,
    sse({ type: 'response.completed', response: { output: [{ type: 'message', content: 'Hello' }] } }),
    'Hello',
  ],
  [
    'unknown events and items',
    OPENAI.model,
    sse(
      { type: 'response.created', response: { id: 'r' } },
      { type: 'response.sparkle', glow: 1 },
      { type: 'response.output_item.added', item: { type: 'sparkle' } },
      { type: 'response.output_item.added', item: { type: 'message', phase: 'sparkling' } },
      { type: 'response.output_text.delta', delta: 'Hello', logprobs: [{ sparkle: 1 }] },
      { type: 'response.output_text.annotation.added', annotation: { type: 'sparkle' } },
      { type: 'response.output_item.done', item: { type: 'message' } },
      COMPLETED,
    ),
    'Hello',
  ],
  [
    'its text only at the end of the part',
    OPENAI.model,
    sse(
      { type: 'response.created', response: {} },
      { type: 'response.output_item.added', item: { type: 'message', id: 'm' } },
      { type: 'response.output_text.done', item_id: 'm', text: 'Hello' },
      { type: 'response.output_item.done', item: HELLO_ITEM },
      { ...COMPLETED, response: { ...COMPLETED.response, output: [HELLO_ITEM] } },
    ),
    'Hello',
  ],
  [
    'its text only at the end of the item',
    OPENAI.model,
    sse({ type: 'response.created', response: {} }, { type: 'response.output_item.done', item: HELLO_ITEM }, COMPLETED),
    'Hello',
  ],
  [
    'its text only at the end of the response',
    OPENAI.model,
    sse({
      type: 'response.completed',
      response: { output: [HELLO_ITEM], usage: { prompt_tokens: 3, completion_tokens: 1 } },
    }),
    'Hello',
  ],
  [
    'unknown parts and metadata',
    GOOGLE.model,
    sse(
      { sparkle: 1 },
      {
        candidates: [
          {
            content: { parts: [{ sparkle: { glow: 1 } }, { text: 'Hello' }, { functionCall: 5 }] },
            groundingMetadata: 5,
            safetyRatings: 'none',
          },
        ],
        usageMetadata: { promptTokenCount: 3, promptTokensDetails: 'new', sparkleCount: 1 },
      },
      { candidates: [{ content: null, finishReason: 'STOP' }], usageMetadata: { candidatesTokenCount: 1 } },
    ),
    'Hello',
  ],
];

it.each([
  ['-5', '1e308', [0, 10_000_000]],
  ['7.5', '-1e308', [8, 0]],
] as const)(
  'tokens that a provider reports as %s and %s are counted as natural numbers, bounded',
  async (input, output, counted) => {
    const end = `{"response":{"status":"completed","usage":{"input_tokens":${input},"output_tokens":${output}}}}`;
    const events = sse({ type: 'response.output_item.done', item: HELLO_ITEM });
    provider.behave(() => ({ body: `${events}data: {"type":"response.completed",${end.slice(1)}\n\n` }));
    const { outcome } = await runTurn(createTestEngine(provider), { model: OPENAI.model });
    expect([outcome.usage.input_tokens, outcome.usage.output_tokens]).toEqual(counted);
  },
);

describe.each(STREAMS)('a stream with %s', (_name, model, body, answer) => {
  it.each([undefined, 1, 7])('a stream with %s is an answer, in pieces of %s bytes', async (pieceBytes) => {
    provider.behave(() => ({ body, ...(pieceBytes !== undefined && { pieceBytes }) }));
    const { outcome, events } = await runTurn(createTestEngine(provider), { model });
    expect(outcome).toMatchObject({ content: answer, finishReason: 'stop' });
    expect(events.filter((event) => 'AgentMessageDelta' in event).length).toBeGreaterThan(0);
  });
});

it.each([
  [
    'item by item',
    sse(
      { type: 'response.output_item.added', item: { type: 'function_call', id: 'f', name: 'add' } },
      { type: 'response.function_call_arguments.delta', item_id: 'f', delta: '{"a":1}' },
      {
        type: 'response.output_item.done',
        item: { type: 'function_call', id: 'f', name: 'add', arguments: '{"a":1}' },
      },
      COMPLETED,
    ),
  ],
  [
    'only at the end',
    sse({
      type: 'response.completed',
      response: { output: [{ type: 'function_call', name: 'add', arguments: { a: 1 } }] },
    }),
  ],
])('a tool that a sparse stream asks for %s is run', async (_name, body) => {
  const receivedArgs: unknown[] = [];
  const tools: Toolset = {
    chars: 10,
    tools: [{ name: 'add', server: 's', tool: 'add', inputSchema: { type: 'object' } }],
    async call(_tool, args) {
      receivedArgs.push(args);
      return { content: '2', isError: false };
    },
  };
  provider.behave(({ toolResults }) => (toolResults.length === 0 ? { body } : { text: `It is ${toolResults[0]}` }));
  const { outcome } = await runTurn(createTestEngine(provider), { model: OPENAI.model, tools });
  expect(receivedArgs).toEqual([{ a: 1 }]);
  expect(outcome.content).toBe('It is 2');
});

describe('the repair of a stream', () => {
  const repair = ({ n }: Readonly<Record<string, unknown>>) =>
    n === 0 ? [] : n === 1 ? undefined : [{ n, more: 'é𝄞' }, { n }];

  it('the repair of a stream does not depend on where the bytes are cut', () => {
    const line = fc.constantFrom(
      'data: {"n":0}\n',
      'data: {"n":1}\n',
      'data:{"n":2}\r\n',
      'data: [DONE]\n',
      ': é𝄞\n',
      '\n',
      'event: x\n',
      'data: {"n":\n',
      'data: {"n":2}',
    );
    fc.assert(
      fc.property(fc.array(line), fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1 }), (lines, sizes) => {
        const body = Buffer.from(`${lines.join('')}data: {"n":1}\n`);
        const cut = createStreamRepair({ repair }, '');
        const pieces: Buffer[] = [];
        for (let start = 0, turn = 0; start < body.length; turn++) {
          const size = sizes[turn % sizes.length] ?? 1;
          pieces.push(cut.push(body.subarray(start, start + size)));
          start += size;
        }
        const whole = createStreamRepair({ repair }, '');
        const expected = Buffer.concat([whole.push(body), whole.end()]).toString();
        expect(Buffer.concat([...pieces, cut.end()]).toString()).toBe(expected);
      }),
    );
  });

  it('bytes that need no repair are passed on unchanged and at once', () => {
    const stream = createStreamRepair({ repair }, '');
    const piece = Buffer.from('event: a\ndata: {"n": 1}\n\n');
    expect(stream.push(piece).toString()).toBe(piece.toString());
    expect(stream.push(Buffer.from('data: {"n": ')).length).toBe(0);
  });
});
