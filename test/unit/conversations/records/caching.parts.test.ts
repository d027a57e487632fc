// A long conversation with tool calls and images is trimmed in steps, and no request has a tool call without its
// result. The requests are checked in the wire formats of the providers.
import { afterAll, beforeAll, expect, it } from 'vitest';
import { conversationPrompt } from '../../../../shared/methods/conversation.prompt.ts';
import { mcpConnect } from '../../../../shared/methods/mcp.connect.ts';
import { createFakeMcpServer, type FakeMcpServer } from '../../../support/fakes/mcp-http-server.ts';
import { listen } from '../../../support/fixtures/gateway/forward.ts';
import { createFixture, type Fixture, type Instance } from '../../../support/fixtures/turns/conversations.ts';
import { sentMessages } from '../../../support/fixtures/turns/histories.ts';

const MODELS = ['anthropic/small', 'openai/small', 'chat/small', 'responses/small'];
const TURNS = 40;
const IMAGE = { type: 'image', media_type: 'image/png', data: 'iVBORw0KGgoAAAANSUhEUg==' } as const;

let fixture: Fixture;
let server: FakeMcpServer;
let remote: Awaited<ReturnType<typeof listen>>;
let instances: readonly Instance[];
beforeAll(async () => {
  fixture = await createFixture();
  server = createFakeMcpServer();
  remote = await listen(server.listener);
  const { url } = fixture.provider;
  const env = {
    ...{
      OPENAI_API_KEY: 'sk-other',
      OPENAI_BASE_URL: url,
      MCP_SERVERS: JSON.stringify({ tools: { url: remote.url } }),
    },
    MODEL_PROVIDERS: JSON.stringify(
      Object.fromEntries(['chat', 'responses'].map((wire) => [wire, { base_url: url, wire }])),
    ),
    MODELS: JSON.stringify(Object.fromEntries(MODELS.map((model) => [model, { context_tokens: 8_192 }]))),
  };
  instances = [await fixture.instance(env), await fixture.instance(env)];
});
afterAll(async () => {
  remote.close();
  await fixture.close();
});

/** The ids of the tool calls and of the results in messages, each in the form of its wire. */
function toolIds(messages: readonly string[]): { readonly calls: unknown[]; readonly results: unknown[] } {
  const ids: ReturnType<typeof toolIds> = { calls: [], results: [] };
  JSON.parse(`[${messages.join()}]`, (_, value) => {
    const { type, id, call_id, tool_use_id, tool_call_id } = Object(value);
    const result = tool_use_id ?? tool_call_id ?? (type === 'function_call_output' ? call_id : undefined);
    if (result !== undefined) ids.results.push(result);
    else if (['tool_use', 'function', 'function_call'].includes(type)) ids.calls.push(call_id ?? id);
    return value;
  });
  return ids;
}

it.each(MODELS)('a long conversation is trimmed in steps of whole turns: %s', async (model) => {
  const [a] = instances;
  await a?.call(mcpConnect, { server_config: { name: 'tools' }, session_id: model });
  const changes: number[] = [];
  let before: readonly string[] = [];
  let hasImage = false;
  for (let turn = 0; turn < TURNS; turn++) {
    server.result = JSON.stringify({ content: [{ type: 'text', text: `${turn} ${'result '.repeat(turn % 50)}` }] });
    const words = `${turn} ${'word '.repeat(20 + ((turn * 37) % 90))}`;
    const text = turn % 3 === 1 ? `${words}[[tool tools__act {"turn": ${turn}}]]` : words;
    const prompt = turn % 13 === 1 ? [{ type: 'text', text } as const, IMAGE] : text;
    await instances[turn % 2]?.call(conversationPrompt, { prompt, model, session_id: model });
    const sent = sentMessages(fixture);
    if (sent.slice(0, before.length).join() !== before.join()) changes.push(turn);
    before = sent;
    hasImage ||= sent.length > 4 && sent.join().includes(IMAGE.data);
    const { calls, results } = toolIds(sent);
    expect(results).toEqual(calls);
  }
  expect(toolIds(before).calls.length).toBeGreaterThan(2);
  expect(before.join()).toContain('result result');
  expect(hasImage).toBe(true);
  expect(changes.length).toBeGreaterThan(2);
  expect(changes.length).toBeLessThanOrEqual(TURNS / 4);
});
