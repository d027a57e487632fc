// A request to a model that cannot use tools is repeated without them, in every wire format and for each form in which
// servers refuse them.
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Message, Toolset } from '../../../../../shared/engines/engine.ts';
import { type ModelProvider, startModelProvider } from '../../../../support/fakes/model-provider/model-provider.ts';
import { CASES, createTestEngine, failTurn, runTurn } from '../../../../support/fixtures/turns/engines.ts';

let provider: ModelProvider;
beforeAll(async () => {
  provider = await startModelProvider();
});
afterEach(() => provider.behave());
afterAll(() => provider.close());

const TOOLS: Toolset = {
  chars: 100,
  tools: [{ name: 'math__add', server: 'math', tool: 'add', inputSchema: { type: 'object', properties: {} } }],
  call: async () => ({ content: '42', isError: false }),
};
const CALL = { call_id: 'call_0', name: 'math__add' } as const;
const USED: readonly Message[] = [
  { role: 'user', content: 'one' },
  {
    role: 'assistant',
    content: 'It is 42.',
    model: 'other/model',
    parts: [
      { type: 'tool_call', ...CALL, arguments: '{}' },
      { type: 'tool_result', ...CALL, content: '42', is_error: false },
      { type: 'text', text: 'It is 42.' },
    ],
  },
  { role: 'user', content: 'two' },
];

const hasTools = (body: unknown): boolean => 'tools' in Object(body);

function refuse(message: string, status = 400): void {
  provider.behave(({ body }) => (hasTools(body) ? { status, message } : { text: 'fine' }));
}

describe.each(CASES)('$provider', ({ model }) => {
  it('a model that refuses tools is sent none from then on, and the answer names that', async () => {
    refuse('small:latest does not support tools');
    const from = provider.calls;
    const { outcome } = await runTurn(createTestEngine(provider), { model, tools: TOOLS });
    expect(outcome).toMatchObject({ content: 'fine', warnings: [{ setting: 'tools' }] });
    expect(outcome.warnings?.[0]?.message).toContain('does not support tools');
    expect(provider.calls - from).toBe(2);
  });

  it('a model that refuses tools answers in a conversation that used them before, without a warning', async () => {
    refuse('small:latest does not support tools');
    const { outcome } = await runTurn(createTestEngine(provider), { model, messages: USED });
    expect(outcome.content).toBe('fine');
    expect(outcome).not.toHaveProperty('warnings');
    expect(JSON.stringify(provider.requests.at(-1)?.body)).toContain('It is 42.');
  });

  it.each([
    'tools.0.custom.input_schema: schema must have type object',
    "Invalid 'tools': array too long. Expected at most 128",
    'Function tools with reasoning_effort are not supported for this model',
    "tool_choice 'required' is not supported",
    'the text is not supported by any tool',
  ])('tools are kept where the provider refuses something else: %s', async (message) => {
    refuse(message);
    const from = provider.calls;
    const { error } = await failTurn(createTestEngine(provider), { model, tools: TOOLS });
    expect(error.reason).toBe('upstream_error');
    expect(provider.calls - from).toBe(1);
  });
});

it.each([
  [400, 'registry.ollama.ai/library/smollm:latest does not support tools'],
  [400, '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'],
  [500, 'tools param requires --jinja flag'],
  [400, "litellm.UnsupportedParamsError: openai does not support parameters: ['stop', 'tools'], for model=m"],
  [400, 'Function calling is not enabled for models/gemma-3-4b-it'],
  [400, '`tool calling` is not supported with this model'],
  [400, 'deepseek-reasoner does not support Function Calling'],
  [404, 'No endpoints found that support tool use. To learn more, visit the documentation'],
  [400, "This model doesn't support tool use in streaming mode."],
])('a refusal of tools is recognised: %i %s', async (status, message) => {
  refuse(message, status);
  const { outcome } = await runTurn(createTestEngine(provider), { model: 'groq/m', tools: TOOLS });
  expect(outcome).toMatchObject({ content: 'fine', warnings: [{ setting: 'tools' }] });
});
