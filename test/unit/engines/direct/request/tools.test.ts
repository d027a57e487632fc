// A tool that a model calls is run and its result sent in the next call, for a bounded number of rounds. In every wire
// format through the real SDK providers.

import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Outcome, Toolset, TurnInput } from '../../../../../shared/engines/engine.ts';
import type { EngineEvent } from '../../../../../shared/turn-events.ts';
import { type ModelProvider, startModelProvider } from '../../../../support/fakes/model-provider/model-provider.ts';
import { CASES, createTestEngine, textOf } from '../../../../support/fixtures/turns/engines.ts';

let provider: ModelProvider;
beforeAll(async () => {
  provider = await startModelProvider();
});
afterEach(() => provider.behave());
afterAll(() => provider.close());

/** Adds two numbers; keeps the arguments of its calls. */
function createAdder(): Toolset & { readonly receivedArgs: object[] } {
  const receivedArgs: object[] = [];
  return {
    receivedArgs,
    chars: 100,
    tools: [
      {
        name: 'math__add',
        server: 'math',
        tool: 'add',
        description: 'Adds two numbers',
        inputSchema: { type: 'object', properties: { a: { type: 'number' }, b: { type: 'number' } } },
      },
    ],
    async call(_tool, args) {
      receivedArgs.push(args);
      const { a, b } = args;
      if (typeof a !== 'number' || typeof b !== 'number') return { content: 'a and b must be numbers', isError: true };
      return { content: String(a + b), isError: false };
    },
  };
}

async function run(
  model: string,
  prompt: string,
  tools: Toolset,
  signal = new AbortController().signal,
): Promise<{ events: EngineEvent[]; outcome: Outcome }> {
  const messages = [{ role: 'user' as const, content: prompt }];
  const turn: TurnInput = { turnId: 'turn_1', conversationId: 'conv_1', model, messages, tools };
  const running = createTestEngine(provider).run(turn, { signal });
  const events: EngineEvent[] = [];
  for (;;) {
    const step = await running.next();
    if (step.done) return { events, outcome: step.value };
    events.push(step.value);
  }
}

describe.each(CASES)('$provider', ({ model }) => {
  it('a tool that the model calls is run, and the model’s answer to the result is returned', async () => {
    const adder = createAdder();
    const from = provider.calls;
    const { events, outcome } = await run(model, '[[tool math__add {"a": 2, "b": 40}]] please', adder);
    expect(adder.receivedArgs).toEqual([{ a: 2, b: 40 }]);
    expect(outcome).toMatchObject({ content: 'The tool said: 42', finishReason: 'stop' });
    expect(textOf(events)).toBe(outcome.content);
    const named = { call_id: expect.any(String), server: 'math', tool: 'add' };
    expect(events.filter((event) => 'McpToolCallBegin' in event || 'McpToolCallEnd' in event)).toEqual([
      { McpToolCallBegin: { ...named, arguments: { a: 2, b: 40 } } },
      { McpToolCallEnd: { ...named, success: true, duration_ms: expect.any(Number), result: '42' } },
    ]);
    // Both calls are paid for.
    expect(provider.calls - from).toBe(2);
    expect(events.at(-1)).toEqual({ TokenCount: outcome.usage });
    expect(outcome.usage.output_tokens).toBeGreaterThan(4);
  });

  it('a tool that fails, and one that does not exist, are reported to the model', async () => {
    const failing = await run(model, '[[tool math__add {"a": "x"}]]', createAdder());
    expect(failing.outcome.content).toContain('a and b must be numbers');
    expect(failing.events).toContainEqual({
      McpToolCallEnd: expect.objectContaining({ success: false, result: 'a and b must be numbers' }),
    });
    const missing = await run(model, '[[tool no__such]]', createAdder());
    expect(missing.outcome.content).toContain('There is no such tool.');
    expect(textOf(missing.events)).toBe(missing.outcome.content);
  });

  it.each(['{"a": 9007199254740993, "b": 1}', '{"list": {"n": 12345678901234567890}}'])(
    'a tool is not run with rounded numbers, and the model receives the reason: %s',
    async (args) => {
      const adder = createAdder();
      const { events, outcome } = await run(model, `[[tool math__add ${args}]]`, adder);
      expect(adder.receivedArgs).toEqual([]);
      expect(outcome.content).toMatch(/would lose digits.*as a string/);
      expect(events.filter((event) => 'McpToolCallBegin' in event)).toEqual([]);
    },
  );

  it('a model is called without tools when all of them are left out', async () => {
    const { outcome } = await run(model, 'hello', { ...createAdder(), tools: [] });
    expect(outcome.content).toContain('hello');
    expect(provider.requests.at(-1)?.body).not.toHaveProperty('tools');
  });

  it('a turn has at most eight rounds of tools, and then the model has to answer', async () => {
    const adder = createAdder();
    const { outcome } = await run(model, '[[tool math__add {"a": 1, "b": 1} times 9]]', adder);
    expect(adder.receivedArgs).toHaveLength(8);
    expect(outcome.content).toContain('No more tool calls');
  });

  it('a turn whose model never stops calling tools fails', async () => {
    const adder = createAdder();
    const from = provider.calls;
    await expect(run(model, '[[tool math__add {"a": 1, "b": 1} times 99]]', adder)).rejects.toMatchObject({
      reason: 'upstream_error',
    });
    expect(adder.receivedArgs).toHaveLength(8);
    expect(provider.calls - from).toBe(10);
  });

  it('a tool stops with its turn, also in the middle', async () => {
    const leaving = new AbortController();
    const slow: Toolset = {
      ...createAdder(),
      call: (_tool, _args, signal) =>
        new Promise((_, reject) => {
          signal.addEventListener('abort', () => reject(signal.reason));
          leaving.abort(new Error('stopped'));
        }),
    };
    await expect(run(model, '[[tool math__add {}]]', slow, leaving.signal)).rejects.toThrow('stopped');
  });
});
