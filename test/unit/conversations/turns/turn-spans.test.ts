// A turn that uses tools has a span for each call of its model and for each tool. The events come from the real engines
// and reach a collector through the real tracer.
import { afterEach, expect, it } from 'vitest';
import { traceTurn } from '../../../../shared/conversations/turns/run/turn-spans.ts';
import type { Toolset } from '../../../../shared/engines/engine.ts';
import { createOtlpTracer } from '../../../../shared/telemetry/otlp-tracer.ts';
import { inTrace } from '../../../../shared/telemetry/trace.ts';
import type { EngineEvent } from '../../../../shared/turn-events.ts';
import { startModelProvider } from '../../../support/fakes/model-provider/model-provider.ts';
import { type ReceivedSpan, startOtlpReceiver } from '../../../support/fixtures/network/otlp-receiver.ts';
import { createTestEngine } from '../../../support/fixtures/turns/engines.ts';

const TRACE = { traceId: 'a'.repeat(32), spanId: 'b'.repeat(16), sampled: true };
const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

async function start() {
  const receiver = await startOtlpReceiver();
  closing.push(() => receiver.close());
  const tracer = createOtlpTracer({ endpoint: receiver.endpoint, serviceName: 'test' });
  const received = async (): Promise<readonly ReceivedSpan[]> => {
    await tracer.close();
    return receiver.spans;
  };
  const trace = (model: string) =>
    traceTurn(tracer, { model, conversationId: 'conv_1' }, () => performance.timeOrigin + performance.now());
  return { trace, received };
}

const FAILING: Toolset = {
  chars: 10,
  tools: [{ name: 'math__add', server: 'math', tool: 'add', inputSchema: { type: 'object' } }],
  call: async () => ({ content: 'no', isError: true }),
};

it('each call of the model is a span with its own tokens, and each tool a span between them', async () => {
  const provider = await startModelProvider();
  closing.push(() => provider.close());
  const { trace, received } = await start();
  const model = 'openai/gpt-5.2';
  await inTrace(TRACE, async () => {
    const spans = trace(model);
    const messages = [{ role: 'user' as const, content: '[[tool math__add {"a": 1}]] please' }];
    const turn = { turnId: 'turn_1', conversationId: 'conv_1', model, messages, tools: FAILING };
    const running = createTestEngine(provider).run(turn, { signal: new AbortController().signal });
    for (let step = await running.next(); ; step = await running.next()) {
      if (step.done) return spans.completed(step.value);
      spans.event(step.value);
    }
  });
  const found = await received();
  expect(found).toHaveLength(3);
  const endedBy = (reason: string) =>
    found.find(({ attributes }) => String(attributes['gen_ai.response.finish_reasons']) === reason);
  const [first, second] = [endedBy('tool_calls'), endedBy('stop')];
  const tool = found.find(({ kind }) => kind === 'internal');
  const chat = { 'gen_ai.operation.name': 'chat', 'gen_ai.provider.name': 'openai', 'gen_ai.request.model': 'gpt-5.2' };
  expect(first).toMatchObject({ name: 'chat gpt-5.2', kind: 'client', attributes: chat });
  expect(tool).toMatchObject({
    name: 'execute_tool add',
    kind: 'internal',
    isError: true,
    attributes: {
      'gen_ai.operation.name': 'execute_tool',
      'gen_ai.tool.name': 'add',
      'gen_ai.tool.call.id': expect.any(String),
      'error.type': 'tool_error',
    },
  });
  expect(second).toMatchObject({ name: 'chat gpt-5.2', attributes: chat });
  for (const span of [first, second]) expect(span?.attributes['gen_ai.usage.input_tokens']).toBeGreaterThan(0);
  expect(second?.attributes['gen_ai.usage.output_tokens']).toBeGreaterThan(0);
  for (const span of [first, tool, second]) {
    expect([span?.traceId, span?.parentSpanId]).toEqual([TRACE.traceId, TRACE.spanId]);
  }
});

it('a turn of Codex is one agent with its commands, patches and tokens of the whole turn', async () => {
  const { trace, received } = await start();
  const spans = trace('codex/gpt-5.2-codex');
  const events: EngineEvent[] = [
    { TokenCount: { input_tokens: 5, output_tokens: 1, total_tokens: 6 } },
    { ExecCommandBegin: { call_id: 'c1', command: ['ls'], cwd: '/' } },
    { ExecCommandEnd: { call_id: 'c1', exit_code: 0, duration_ms: 1, aggregated_output: 'secret' } },
    { PatchApplyBegin: { call_id: 'c2', changes: [] } },
    { PatchApplyEnd: { call_id: 'c2', success: false, changes: [] } },
  ];
  for (const event of events) spans.event(event);
  const usage = { input_tokens: 50, output_tokens: 10, total_tokens: 60 };
  spans.completed({ content: 'done', usage, model: 'codex/gpt-5.2-codex', finishReason: 'stop' });
  const found = await received();
  expect(found.map(({ name, isError }) => `${name}: ${isError}`).sort()).toEqual([
    'execute_tool apply_patch: true',
    'execute_tool shell: false',
    'invoke_agent codex: false',
  ]);
  expect(found.find(({ name }) => name.startsWith('invoke_agent'))?.attributes).toMatchObject({
    'gen_ai.operation.name': 'invoke_agent',
    'gen_ai.agent.name': 'codex',
    'gen_ai.provider.name': 'openai',
    'gen_ai.usage.input_tokens': 50,
    'gen_ai.usage.output_tokens': 10,
  });
});

it('a turn that fails or is cancelled ends its spans with the reason', async () => {
  const { trace, received } = await start();
  const spans = trace('google/gemini-3');
  spans.event({ TokenCount: { input_tokens: 5, output_tokens: 1, total_tokens: 6 } });
  spans.event({ McpToolCallBegin: { call_id: 'c1', server: 's', tool: 'slow' } });
  spans.failed('cancelled');
  expect((await received()).map(({ name, attributes }) => `${name}: ${attributes['error.type']}`).sort()).toEqual([
    'chat gemini-3: cancelled',
    'chat gemini-3: undefined',
    'execute_tool slow: tool_error',
  ]);
});

it('a call that is repeated, and one whose answer is no success, is a span with its own tokens', async () => {
  const { trace, received } = await start();
  const spans = trace('anthropic/claude');
  spans.event({ TokenCount: { input_tokens: 5, output_tokens: 1, total_tokens: 6 } });
  spans.event({ ContextTrimmed: { messages: 1, trimmed: 2, budget_tokens: 3 } });
  spans.event({ TokenCount: { input_tokens: 15, output_tokens: 3, total_tokens: 18 } });
  spans.failed('upstream_error');
  const found = await received();
  const describe = ({ attributes }: ReceivedSpan) =>
    `${attributes['gen_ai.usage.input_tokens']}: ${attributes['error.type']}`;
  expect(found.map(describe).sort()).toEqual(['10: upstream_error', '5: undefined']);
});

it('a call that fails after one with tokens is a span of its own, with the error', async () => {
  const { trace, received } = await start();
  const spans = trace('anthropic/claude');
  spans.event({ TokenCount: { input_tokens: 5, output_tokens: 1, total_tokens: 6 } });
  spans.event({ StreamError: { message: 'it is overloaded', attempt: 1 } });
  spans.failed('upstream_error');
  const found = await received();
  const describe = ({ attributes }: ReceivedSpan) =>
    `${attributes['gen_ai.usage.input_tokens']}: ${attributes['error.type']}`;
  expect(found.map(describe).sort()).toEqual(['5: undefined', 'undefined: upstream_error']);
});

it('what a provider chooses has a bounded length in a span', async () => {
  const { trace, received } = await start();
  const spans = trace('google/gemini-3');
  const call_id = 'x'.repeat(100_000);
  spans.event({ McpToolCallBegin: { call_id, server: 's', tool: 'slow' } });
  const usage = { input_tokens: 1, output_tokens: 1, total_tokens: 2 };
  spans.completed({ content: 'done', usage, model: `google/${call_id}`, finishReason: 'stop' });
  const found = await received();
  const values = ['gen_ai.tool.call.id', 'gen_ai.response.model'].map((name) =>
    found.map(({ attributes }) => attributes[name]).find((value) => value !== undefined),
  );
  expect(values).toEqual([call_id.slice(0, 256), call_id.slice(0, 256)]);
});
