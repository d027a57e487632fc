// Each model of a turn with fallbacks receives the tools in its own form, and a tool runs once.
import { afterEach, beforeEach, expect, it } from 'vitest';
import { mcpConnect } from '../../../../shared/methods/mcp.connect.ts';
import { createFakeMcpServer } from '../../../support/fakes/mcp-http-server.ts';
import { listen } from '../../../support/fixtures/gateway/forward.ts';
import { createFixture, type Fixture, failure, type Instance } from '../../../support/fixtures/turns/conversations.ts';

const ASK = 'please';
const NEXT = 'openai/gpt-next';
const CALL = { text: '', toolCall: { name: 'tools__act', arguments: { a: 1 } } };

let fixture: Fixture;
let remote: Awaited<ReturnType<typeof listen>>;
let a: Instance;
beforeEach(async () => {
  fixture = await createFixture();
  remote = await listen(createFakeMcpServer().listener);
  a = await fixture.instance({
    MCP_SERVERS: JSON.stringify({ tools: { url: remote.url } }),
    OPENAI_API_KEY: 'sk-other',
    OPENAI_BASE_URL: fixture.provider.url,
  });
  await a.call(mcpConnect, { server_config: { name: 'tools' }, session_id: 's' });
});
afterEach(async () => {
  remote.close();
  await fixture.close();
});

it('a fallback is given the tools, and calls them', async () => {
  fixture.provider.behave(({ model, toolResults }) => {
    if (model !== 'gpt-next') return { status: 403 };
    return toolResults.length === 0 ? CALL : { text: `it says ${toolResults[0]}` };
  });
  const { content, events, model } = await a.prompt(ASK, { fallbacks: [NEXT] });
  expect({ content, model }).toEqual({ content: 'it says done', model: NEXT });
  expect(events.map((event) => Object.keys(event)[0])).toEqual([
    'TaskStarted',
    'McpToolCallBegin',
    'McpToolCallEnd',
    'AgentMessage',
    'TaskComplete',
  ]);
});

it('a model that fails after it has called a tool is not followed, so that the tool does not run again', async () => {
  fixture.provider.behave(({ model, toolResults }) => {
    if (model === 'gpt-next') return { text: 'from the next' };
    return toolResults.length === 0 ? CALL : { status: 403 };
  });
  const stream = a.stream(ASK, { fallbacks: [NEXT] });
  expect(await failure(stream.answer)).toMatchObject({ data: { provider: 'anthropic', status: 403 } });
  expect(stream.events.filter(({ event }) => 'McpToolCallBegin' in event)).toHaveLength(1);
  expect(fixture.provider.requests.map(({ format }) => format)).toEqual(['anthropic', 'anthropic']);
});
