// An MCP server that one call has connected is used by other calls and offered to the model of its session, and is
// invisible to other keys.
import { afterAll, expect, it } from 'vitest';
import { type ModelProvider, startModelProvider } from '../support/fakes/model-provider/model-provider.ts';
import { connect, type Message } from '../support/fixtures/gateway/companion.ts';
import { startInProcess } from '../support/fixtures/gateway/in-process.ts';
import { registeredServers } from '../support/fixtures/sandbox/mcp.ts';
import { describeWith } from '../support/requirements.ts';

const KEYS = ['alice', 'bob'].map((id) => ({ id, key: `${id}-key`, scopes: ['workspace', 'mcp', 'conversation'] }));

describeWith('bubblewrap', 'MCP over the wire', async () => {
  const provider: ModelProvider = await startModelProvider();
  const gateway = await startInProcess({
    PATH: process.env.PATH,
    GATEWAY_KEYS: JSON.stringify({ keys: KEYS }),
    GATEWAY_LIMITS: '1000000/minute',
    MCP_SERVERS: JSON.stringify(registeredServers(['modern', 'odd', 'growing'])),
    ANTHROPIC_API_KEY: 'test',
    ANTHROPIC_BASE_URL: provider.url,
    OPENAI_API_KEY: 'test',
    OPENAI_BASE_URL: provider.url,
  });
  afterAll(async () => {
    await gateway.close();
    await provider.close();
  });

  const rpc = async (key: string, method: string, params: object): Promise<Message> => {
    const response = await fetch(`${gateway.url}/jsonrpc`, {
      method: 'POST',
      headers: { 'x-api-key': `${key}-key`, 'content-type': 'application/json' },
      body: JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }),
    });
    return JSON.parse(await response.text());
  };

  it('mcp.connect answers the reference’s example, whose module is nowhere, at once with a message', async () => {
    const server_config = { name: 'my-mcp-server', command: 'python', args: ['-m', 'mcp_server'] };
    const { error } = await rpc('alice', 'mcp.connect', { server_config });
    expect(error).toMatchObject({ code: 502, data: { reason: 'upstream_error', server: 'my-mcp-server' } });
    expect(String(error?.data.stderr)).toMatch(/mcp_server|python/);
  });

  it('an MCP server is connected, listed, called and disconnected by JSON-RPC', async () => {
    const server_config = { name: 'everything' };
    const { result } = await rpc('alice', 'mcp.connect', { server_config, session_id: 's' });
    expect(result).toMatchObject({
      name: 'everything',
      session_id: 's',
      transport: 'stdio',
      server: { name: 'mcp-servers/everything', version: expect.any(String) },
      protocol_version: '2025-11-25',
      tools: expect.arrayContaining([expect.objectContaining({ name: 'echo', input_schema: expect.any(Object) })]),
    });
    expect((await rpc('alice', 'mcp.list', { session_id: 's' })).result).toEqual({ servers: [result] });
    const call = { name: 'everything', session_id: 's', tool: 'echo', arguments: { message: 'hi' } };
    expect((await rpc('alice', 'mcp.call', call)).result).toMatchObject({
      content: [{ type: 'text', text: 'Echo: hi' }],
      is_error: false,
    });
    expect((await rpc('alice', 'mcp.disconnect', { name: 'everything', session_id: 's' })).result).toEqual({
      disconnected: true,
      name: 'everything',
      session_id: 's',
    });
    expect((await rpc('alice', 'mcp.call', call)).error?.data.reason).toBe('not_found');
  });

  it.each(['anthropic/claude-sonnet-4-5', 'openai/gpt-5'])(
    '%s can use the tools of its session, and of no other',
    async (model) => {
      const session_id = `with-tools-${model.slice(0, 6)}`;
      const server_config = { name: 'modern' };
      await rpc('alice', 'mcp.connect', { server_config, session_id });
      const client = await connect(`${gateway.url.replace('http', 'ws')}/ws`, {
        headers: { 'X-API-Key': 'alice-key' },
      });
      const prompt = '[[tool modern__add {"a": 2, "b": 40}]] add them';
      const { result } = await client.call('conversation.prompt', { prompt, session_id, model });
      expect(result?.content).toBe('The tool said: 42');
      const named = { call_id: expect.any(String), server: 'modern', tool: 'add' };
      const expected = [
        { McpToolCallBegin: { ...named, arguments: { a: 2, b: 40 } } },
        { McpToolCallEnd: { ...named, success: true, duration_ms: expect.any(Number), result: '42' } },
      ];
      expect(result?.events).toEqual(expect.arrayContaining(expected));
      const streamed = client.received.flatMap(({ method, params }) =>
        method === 'conversation.event' ? [params?.event] : [],
      );
      expect(streamed).toEqual(expect.arrayContaining(expected));
      // The stored turn is the one that was sent.
      const { result: resumed } = await rpc('alice', 'conversation.resume', { session_id });
      expect(JSON.stringify(resumed)).toContain('McpToolCallEnd');

      const without = `without-tools-${model.slice(0, 6)}`;
      const elsewhere = await client.call('conversation.prompt', { prompt, session_id: without, model });
      expect(elsewhere.result?.content ?? elsewhere.error?.data.reason).not.toBe('The tool said: 42');
      expect(provider.requests.at(-1)?.body).not.toHaveProperty('tools');
      client.socket.close();
    },
  );

  it.each(['anthropic/claude-sonnet-4-5', 'openai/gpt-5'])(
    '%s receives unusual tools of a server in a form that it accepts, and the omitted ones are named',
    async (model) => {
      const session_id = `odd-${model.slice(0, 6)}`;
      await rpc('alice', 'mcp.connect', { server_config: { name: 'odd' }, session_id });
      const sendPrompt = async (prompt: string) =>
        (await rpc('alice', 'conversation.prompt', { prompt, session_id, model })).result;
      const result = await sendPrompt('[[tool odd__find_page {"id": "1", "filter_kind__d2fff89a": "blog"}]] find');
      expect(result?.content).toBe('The tool said: {"id":"1","filter[kind]":"blog"}');
      // The event shows what the tool was given.
      expect(JSON.stringify(result?.events)).toContain('{"id":"1","filter[kind]":"blog"}');
      expect(result?.events).toContainEqual({
        TaskStarted: expect.objectContaining({
          omitted_tools: expect.arrayContaining([
            { server: 'odd', tool: 'list', reason: 'its parameters are not an object' },
            { server: 'odd', tool: 'deep', reason: 'its description is nested deeper than 64 levels' },
          ]),
        }),
      });
      // A number that would be rounded is answered to the model as an error, and the turn continues.
      const rounded = await sendPrompt('[[tool odd__act {"id": 9007199254740993}]] act');
      expect(rounded?.content).toMatch(/^The tool said: .*a number that would lose digits/);
      expect(JSON.stringify(provider.requests.at(-1)?.body)).toContain('9007199254740993');
      await rpc('alice', 'mcp.disconnect', { name: 'odd', session_id });
    },
  );

  it('a turn can use the tools that a server has announced during the one before', async () => {
    const session_id = 'growing';
    await rpc('alice', 'mcp.connect', { server_config: { name: 'growing' }, session_id });
    const sendPrompt = (prompt: string) =>
      rpc('alice', 'conversation.prompt', { prompt, session_id, model: 'openai/gpt-5' });
    await sendPrompt('[[tool growing__act {}]] grow');
    await expect
      .poll(async () => {
        await sendPrompt('hello');
        return JSON.stringify(provider.requests.at(-1)?.body);
      })
      .toContain('growing__act-1');
    await rpc('alice', 'mcp.disconnect', { name: 'growing', session_id });
  });

  it('the connection of another key is answered exactly like one that is not there', async () => {
    await rpc('alice', 'mcp.connect', { server_config: { name: 'modern' }, session_id: 'private' });
    const calls: readonly (readonly [string, object])[] = [
      ['mcp.call', { tool: 'add', arguments: { a: 1, b: 2 } }],
      ['mcp.disconnect', {}],
    ];
    for (const [method, params] of calls) {
      const [foreign, missing] = await Promise.all(
        ['private', 'nobodys'].map((session_id) => rpc('bob', method, { ...params, name: 'modern', session_id })),
      );
      const comparable = (message: Message | undefined) => ({
        ...message?.error,
        data: { ...message?.error?.data, request_id: '' },
      });
      expect(foreign?.error?.code).toBe(404);
      expect(comparable(foreign)).toEqual(comparable(missing));
    }
    expect((await rpc('bob', 'mcp.list', {})).result).toEqual({ servers: [] });
    expect((await rpc('bob', 'mcp.list', { session_id: 'private' })).result).toEqual({ servers: [] });
    // The model of his session of the same name is offered nothing.
    await rpc('bob', 'conversation.prompt', { prompt: 'hello', session_id: 'private', model: 'openai/gpt-5' });
    expect(provider.requests.at(-1)?.body).not.toHaveProperty('tools');
    expect(
      (await rpc('alice', 'mcp.call', { ...calls[0]?.[1], name: 'modern', session_id: 'private' })).result,
    ).toMatchObject({ content: [{ type: 'text', text: '3' }] });
  });
});
