// An answer reaches the caller complete, in every wire format, through the real SDK providers over HTTP.
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { type ModelProvider, startModelProvider } from '../../../support/fakes/model-provider/model-provider.ts';
import { CASES, createTestEngine, KEY, runTurn, textOf } from '../../../support/fixtures/turns/engines.ts';

let provider: ModelProvider;
beforeAll(async () => {
  provider = await startModelProvider();
});
afterEach(() => {
  vi.unstubAllEnvs();
  provider.behave();
});
afterAll(() => provider.close());

describe.each(CASES)('$provider', ({ model, provider: name }) => {
  it('a turn returns the complete answer, equal to its deltas, with the usage of the provider', async () => {
    const { events, outcome } = await runTurn(createTestEngine(provider), { model, prompt: 'count [[chunks 20]]' });
    expect(outcome.content).toBe(Array.from({ length: 20 }, (_, index) => `${index} `).join(''));
    expect(textOf(events)).toBe(outcome.content);
    expect(events.filter((event) => 'AgentMessageDelta' in event)).toHaveLength(20);
    expect(events.at(-1)).toEqual({ TokenCount: outcome.usage });
    expect(outcome.usage).toEqual({ input_tokens: 5, output_tokens: 13, total_tokens: 18 });
    expect(outcome).toMatchObject({ model, finishReason: 'stop' });
  });

  it('a delta is passed on before the next one exists', async () => {
    const { promise: released, resolve: release } = Promise.withResolvers<void>();
    provider.behave(() => ({
      chunks: ['first', 'second'],
      gate: (index) => (index === 1 ? released : Promise.resolve()),
    }));
    const onEvent = () => release();
    const { events } = await runTurn(createTestEngine(provider), { model, onEvent });
    expect(textOf(events)).toBe('firstsecond');
  });

  it('instructions and the conversation are sent in order, without empty messages', async () => {
    provider.behave((request) => ({ text: JSON.stringify(request.body) }));
    const { outcome } = await runTurn(createTestEngine(provider), {
      model,
      instructions: 'be brief',
      messages: [
        { role: 'user', content: 'my name is Ada' },
        { role: 'assistant', content: 'noted' },
        { role: 'user', content: 'wait' },
        { role: 'assistant', content: '' },
        { role: 'user', content: 'who am I?' },
      ],
    });
    const at = ['my name is Ada', 'noted', 'wait', 'who am I?'].map((text) => outcome.content.indexOf(text));
    expect(at).toEqual(at.toSorted((a, b) => a - b));
    expect(at).not.toContain(-1);
    expect(outcome.content).toContain('be brief');
    expect(outcome.content).not.toContain('"text":""');
  });

  it('reasoning is separated from the answer', async () => {
    provider.behave(() => ({ reasoning: 'let me see', text: 'yes' }));
    const { events, outcome } = await runTurn(createTestEngine(provider), { model });
    expect(events.slice(0, 2)).toEqual([
      { AgentReasoningDelta: { delta: 'let me see' } },
      { AgentReasoning: { text: 'let me see' } },
    ]);
    expect(outcome.content).toBe('yes');
  });

  it('tokens from the cache and those of the reasoning are counted, where the provider reports them', async () => {
    provider.behave(() => ({ text: 'yes', cachedTokens: 40, reasoningTokens: 30 }));
    const prompt = 'word '.repeat(40);
    const { events, outcome } = await runTurn(createTestEngine(provider), { model, prompt });
    const usage = {
      ...{ input_tokens: 50, output_tokens: 31, total_tokens: 81 },
      ...{ cached_input_tokens: 40, reasoning_tokens: 30 },
    };
    expect(outcome.usage).toEqual(usage);
    expect(events).toContainEqual({ TokenCount: usage });
  });

  it('an answer that was cut at the output limit is reported', async () => {
    provider.behave(() => ({ text: 'so much', end: 'length' }));
    const { outcome } = await runTurn(createTestEngine(provider), { model });
    expect(outcome).toMatchObject({ content: 'so much', finishReason: 'length' });
  });

  it('the configured credentials are used, whatever the environment contains', async () => {
    for (const variable of ['ANTHROPIC_API_KEY', 'OPENAI_API_KEY', 'GOOGLE_VERTEX_API_KEY'])
      vi.stubEnv(variable, 'stray');
    vi.stubEnv(`${name.toUpperCase()}_BASE_URL`, 'http://127.0.0.1:9');
    const seen = provider.next();
    await runTurn(createTestEngine(provider), { model });
    const { headers } = await seen;
    if (name === 'anthropic') expect(headers['x-api-key']).toBe(KEY);
    else expect(headers.authorization).toBe(`Bearer ${KEY}`);
    expect(JSON.stringify(headers)).not.toContain('stray');
  });

  it('turns that follow each other share one connection', async () => {
    const engine = createTestEngine(provider);
    await runTurn(engine, { model });
    const from = provider.requests.length;
    for (let turn = 0; turn < 10; turn += 1) await runTurn(engine, { model });
    expect(new Set(provider.requests.slice(from).map(({ port }) => port)).size).toBeLessThanOrEqual(2);
  });
});

describe('what differs by provider', () => {
  it('OpenAI is instructed not to store the conversation, and Anthropic is sent an output limit', async () => {
    const engine = createTestEngine(provider);
    const openai = provider.next();
    await runTurn(engine, { model: 'openai/gpt-5' });
    expect((await openai).body).toMatchObject({ store: false, stream: true });
    const anthropic = provider.next();
    await runTurn(engine, { model: 'anthropic/claude-sonnet-4-5' });
    expect((await anthropic).body).toMatchObject({ max_tokens: 32_000, stream: true });
  });

  it('an Anthropic stream that stays open after message_stop is accepted', async () => {
    provider.behave(() => ({ text: 'done', keepOpen: true }));
    const { outcome } = await runTurn(createTestEngine(provider), { model: 'anthropic/claude-sonnet-4-5' });
    expect(outcome.content).toBe('done');
  });
});
