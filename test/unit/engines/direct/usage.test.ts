// The tokens of a turn are reported once the provider has counted them, also for an answer that is no success, and add
// up over the calls of the turn. In every wire format.
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { EngineEvent } from '../../../../shared/turn-events.ts';
import { type ModelProvider, startModelProvider } from '../../../support/fakes/model-provider/model-provider.ts';
import type { Script } from '../../../support/fakes/model-provider/model-provider-script.ts';
import { CASES, createTestEngine, failTurn, runTurn } from '../../../support/fixtures/turns/engines.ts';

let provider: ModelProvider;
beforeAll(async () => {
  provider = await startModelProvider();
});
afterEach(() => provider.behave());
afterAll(() => provider.close());

const countsOf = (events: readonly EngineEvent[]) =>
  events.flatMap((event) => ('TokenCount' in event ? [event.TokenCount] : []));

describe.each(CASES)('$provider', ({ model }) => {
  it.each<[string, Script]>([
    ['with reasoning only', { text: '' }],
    ['with reasoning only that is cut', { text: '', end: 'length' }],
    ['that is declined', { text: '', end: 'refusal' }],
    ['with a tool call although there are no tools', { text: '', toolCall: { name: 'act', arguments: {} } }],
  ])('an answer %s fails, and its tokens are reported', async (_, script) => {
    provider.behave(() => ({ ...script, reasoningTokens: 500 }));
    const { events, error } = await failTurn(createTestEngine(provider), { model });
    expect(error).toMatchObject({ reason: 'upstream_error' });
    expect(countsOf(events)).toEqual([expect.objectContaining({ reasoning_tokens: 500 })]);
    expect(countsOf(events)[0]?.input_tokens).toBeGreaterThan(0);
  });
});

it('the tokens of a call that is repeated with a shorter conversation are part of those of the turn', async () => {
  const stream = (stop_reason: string): string =>
    [
      { type: 'message_start', message: { usage: { input_tokens: 10 } } },
      { type: 'content_block_start', index: 0, content_block: { type: 'text', text: '' } },
      ...(stop_reason === 'end_turn'
        ? [{ type: 'content_block_delta', index: 0, delta: { type: 'text_delta', text: 'done' } }]
        : []),
      { type: 'content_block_stop', index: 0 },
      { type: 'message_delta', delta: { stop_reason }, usage: { output_tokens: 2 } },
      { type: 'message_stop' },
    ]
      .map((event) => `data: ${JSON.stringify(event)}\n\n`)
      .join('');
  const reasons = ['model_context_window_exceeded', 'end_turn'];
  provider.behave(() => ({ body: stream(reasons.shift() ?? '') }));
  const messages = Array.from({ length: 9 }, (_, index) => ({
    role: index % 2 === 0 ? ('user' as const) : ('assistant' as const),
    content: 'word '.repeat(200),
  }));
  const turn = { model: 'anthropic/claude-sonnet-4-5', messages };
  const { events, outcome } = await runTurn(createTestEngine(provider), turn);
  expect(outcome).toMatchObject({
    content: 'done',
    usage: { input_tokens: 20, output_tokens: 4, total_tokens: 24 },
  });
  expect(countsOf(events).map(({ total_tokens }) => total_tokens)).toEqual([12, 24]);
});

it('the tokens of an answer that the provider could not complete are reported, unless it has counted none', async () => {
  const body = (usageMetadata: object): string =>
    `data: ${JSON.stringify({ candidates: [{ finishReason: 'MALFORMED_FUNCTION_CALL' }], usageMetadata })}\n\n`;
  const model = 'google/gemini-2.5-flash';
  provider.behave(() => ({ body: body({ promptTokenCount: 10, candidatesTokenCount: 2 }) }));
  const counted = { input_tokens: 10, output_tokens: 2, total_tokens: 12 };
  expect((await failTurn(createTestEngine(provider), { model })).events).toEqual([{ TokenCount: counted }]);
  provider.behave(() => ({ body: body({}) }));
  expect((await failTurn(createTestEngine(provider), { model })).events).toEqual([]);
});
