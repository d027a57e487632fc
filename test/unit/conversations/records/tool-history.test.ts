// Tool calls and results of a turn are in the next turn's request, on another instance and for another provider, and in
// the history.
import { afterEach, beforeEach, expect, it } from 'vitest';
import { partsOfEvents } from '../../../../shared/conversations/turns/end/event-parts.ts';
import { conversationCancel } from '../../../../shared/methods/conversation.cancel.ts';
import { conversationDelete } from '../../../../shared/methods/conversation.delete.ts';
import { conversationHistory } from '../../../../shared/methods/conversation.history.ts';
import { mcpConnect } from '../../../../shared/methods/mcp.connect.ts';
import { createFakeMcpServer, type FakeMcpServer } from '../../../support/fakes/mcp-http-server.ts';
import { listen } from '../../../support/fixtures/gateway/forward.ts';
import { createFixture, type Fixture, type Instance, MODEL } from '../../../support/fixtures/turns/conversations.ts';

const ASK = '[[tool tools__act {"a": 1}]] please';
const OTHER = 'openai/gpt-5';

let fixture: Fixture;
let server: FakeMcpServer;
let remote: Awaited<ReturnType<typeof listen>>;
let a: Instance;
let b: Instance;
beforeEach(async () => {
  fixture = await createFixture();
  server = createFakeMcpServer();
  remote = await listen(server.listener);
  const env = {
    MCP_SERVERS: JSON.stringify({ tools: { url: remote.url } }),
    ...{ OPENAI_API_KEY: 'sk-other', OPENAI_BASE_URL: fixture.provider.url },
  };
  a = await fixture.instance(env);
  b = await fixture.instance(env);
});
afterEach(async () => {
  remote.close();
  await fixture.close();
});

const connect = () => a.call(mcpConnect, { server_config: { name: 'tools' }, session_id: 's' });
const lastBody = (): string => JSON.stringify(fixture.provider.requests.at(-1)?.body);
const history = async () => (await a.call(conversationHistory, { session_id: 's' })).messages;

it('tool calls and results are sent to the next turn, on another instance and for another provider', async () => {
  await connect();
  server.result = '{"content":[{"type":"text","text":"result of the tool"}]}';
  await a.prompt(ASK);
  await b.prompt('what was it?', { model: OTHER });
  expect(lastBody()).toMatch(/"type":"function_call".*"name":"tools__act"/);
  expect(lastBody()).toMatch(/"type":"function_call_output".*result of the tool/);
  await a.prompt('and again?');
  expect(lastBody()).toMatch(/"type":"tool_use".*"type":"tool_result".*result of the tool/);
});

it('tool calls and results are in the history, with the model, and plain answers stay as they were', async () => {
  await connect();
  await a.prompt(ASK);
  await a.prompt('hello', { model: OTHER });
  const [prompt, answer, , plain] = await history();
  expect(prompt).not.toHaveProperty('parts');
  const call_id = expect.any(String);
  expect(answer).toMatchObject({
    content: 'The tool said: done',
    model: MODEL,
    parts: [
      { type: 'tool_call', call_id, name: 'tools__act', arguments: '{"a": 1}' },
      { type: 'tool_result', call_id, name: 'tools__act', content: 'done', is_error: false },
      { type: 'text', text: 'The tool said: done' },
    ],
  });
  expect(plain).toMatchObject({ content: 'You said: hello', model: OTHER });
  expect(plain).not.toHaveProperty('parts');
});

it('long tool results are stored in documents of their own, and erased with the session', async () => {
  await connect();
  const long = 'é'.repeat(60_000);
  server.result = JSON.stringify({ content: [{ type: 'text', text: long }] });
  const before = await fixture.documents();
  await a.prompt(ASK);
  expect((await fixture.documents()).filter((id) => id.startsWith('texts/')).length).toBeGreaterThan(0);
  await b.prompt('what was it?');
  expect(lastBody()).toContain(long);
  await a.call(conversationDelete, { session_id: 's' });
  const left = (await fixture.documents()).filter((id) => /^(texts|messages|conversations)\//.test(id));
  expect(left).toEqual(before.filter((id) => left.includes(id)));
  expect(left.filter((id) => id.startsWith('texts/'))).toEqual([]);
});

it('the next turn is sent the call of a turn that was cancelled while its tool ran', async () => {
  await connect();
  const { promise, resolve: release } = Promise.withResolvers<void>();
  server.hold = promise;
  const stream = a.stream(ASK);
  await stream.until(({ event }) => 'McpToolCallBegin' in event);
  await a.call(conversationCancel, { session_id: 's' });
  await expect(stream.answer).rejects.toThrow();
  release();
  await b.prompt('what was it?');
  expect(lastBody()).toMatch(/"type":"tool_use".*"type":"tool_result".*There is no result/);
});

it('tool calls are rebuilt from the stored events of a turn whose instance has ended', () => {
  const ids = { call_id: '1', server: 'a server', tool: 'act' };
  const events = [
    { AgentMessageDelta: { delta: 'Let me ' } },
    { AgentMessageDelta: { delta: 'see. ' } },
    { McpToolCallBegin: { ...ids, arguments: { a: 1 } } },
    { McpToolCallEnd: { ...ids, success: true, duration_ms: 1, result: 'done' } },
    { AgentMessageDelta: { delta: 'So' } },
  ].map((event, index) => ({ seq: index + 1, event }));
  expect(partsOfEvents(events)).toEqual([
    { type: 'text', text: 'Let me see. ' },
    { type: 'tool_call', call_id: '1', name: 'a_server__act', arguments: '{"a":1}' },
    { type: 'tool_result', call_id: '1', name: 'a_server__act', content: 'done', is_error: false },
  ]);
});
