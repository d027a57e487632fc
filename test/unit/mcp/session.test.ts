// A long-lived connection over HTTP continues with a server that forgets its session, changes its tools, returns large
// numbers, or redirects.
import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, it } from 'vitest';
import { createFakeMcpServer } from '../../support/fakes/mcp-http-server.ts';
import { createMcpFixture, endAfterwards } from '../../support/fixtures/sandbox/mcp.ts';

async function listen(listener: RequestListener): Promise<string> {
  const server = createServer(listener);
  endAfterwards(() => {
    server.closeAllConnections();
    server.close();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/mcp`;
}

async function start(headers: Readonly<Record<string, string>> = {}) {
  const fake = createFakeMcpServer();
  const url = await listen(fake.listener);
  const fixture = await createMcpFixture({ remote: { url, headers } });
  await fixture.connect({ name: 'remote' });
  return { fake, fixture, url };
}

const DONE = { content: [{ type: 'text', text: 'done' }] };

it.each([404, 400] as const)(
  'a connection reconnects after a lost session (HTTP %i) and repeats the call once',
  async (status) => {
    const { fake, fixture } = await start();
    fake.behaviour.goneStatus = status;
    fake.forget();
    expect(await fixture.call({ name: 'remote' }, 'act')).toMatchObject(DONE);
    expect(fake.count('initialize')).toBe(2);
    expect(fake.count('tools/call')).toBe(2);
    expect(await fixture.call({ name: 'remote' }, 'act')).toMatchObject(DONE);
    expect(fake.count('initialize')).toBe(2);
  },
);

it('a connection reconnects once for concurrent calls that lose the session', async () => {
  const { fake, fixture } = await start();
  fake.forget();
  const calls = await Promise.all(Array.from({ length: 8 }, () => fixture.call({ name: 'remote' }, 'act')));
  expect(calls).toMatchObject(Array(8).fill(DONE));
  expect(fake.count('initialize')).toBe(2);
});

it('a call is repeated once only, and the server’s error is returned', async () => {
  const { fake, fixture } = await start();
  fake.behaviour.forgetAfterInitialize = true;
  fake.forget();
  await expect(fixture.call({ name: 'remote' }, 'act')).rejects.toMatchObject({
    reason: 'upstream_error',
    message: 'MCP server "remote" has no MCP endpoint at its URL (HTTP 404)',
  });
  expect(fake.count('initialize')).toBe(2);
});

it('a connection reconnects when mcp.connect or mcp.list loses the session, with the current tools', async () => {
  const { fake, fixture } = await start();
  fake.forget();
  fake.tools = [{ name: 'other', inputSchema: { type: 'object' } }];
  expect(await fixture.connect({ name: 'remote' })).toMatchObject({ tools: [{ name: 'other' }] });
  expect(fake.count('initialize')).toBe(2);
  fake.forget();
  fake.tools = [];
  await fixture.mcp.refresh('a', 's', new AbortController().signal);
  expect(await fixture.mcp.list('a', 's')).toMatchObject([{ name: 'remote', tools: [] }]);
  expect(fake.count('initialize')).toBe(3);
});

it('a connection reconnects for a call within a prompt', async () => {
  const { fake, fixture } = await start();
  const toolset = await fixture.toolset('s');
  const [tool] = toolset?.tools ?? [];
  fake.forget();
  const answer = tool && (await toolset?.call(tool, {}, new AbortController().signal));
  expect(answer).toEqual({ content: 'done', isError: false });
});

it('the tools are listed again when the server announces a change on its stream', async () => {
  const { fake, fixture } = await start();
  await expect.poll(() => fake.announce()).toBe(1);
  fake.tools = [...fake.tools, { name: 'new', inputSchema: { type: 'object' } }];
  fake.announce();
  await expect.poll(async () => (await fixture.toolset('s'))?.tools.map(({ tool }) => tool)).toEqual(['act', 'new']);
});

it('the tools are listed a few times at most, however often a server announces a change', async () => {
  const { fake, fixture } = await start();
  await expect.poll(() => fake.announce()).toBe(1);
  await fixture.toolset('s');
  const before = fake.count('tools/list');
  for (let n = 0; n < 500; n++) fake.announce();
  await fixture.call({ name: 'remote' }, 'act');
  expect(fake.count('tools/list') - before).toBeLessThanOrEqual(2);
});

it.each([false, true])('every digit of a result is kept, as events: %s', async (stream) => {
  const { fake, fixture } = await start();
  fake.behaviour.stream = stream;
  fake.result = '{"content":[{"type":"text","text":"ü 9007199254740993"}],"structuredContent":{"id":9007199254740993}}';
  expect(await fixture.call({ name: 'remote' }, 'act')).toMatchObject({
    content: [{ text: 'ü 9007199254740993' }],
    structuredContent: '{"id":9007199254740993}',
  });
});

it.each([
  [401, 'text/plain', 'MCP server "remote" refused the credentials (HTTP 401)', false],
  [403, 'text/plain', 'MCP server "remote" refused the credentials (HTTP 403)', false],
  [404, 'text/plain', 'MCP server "remote" has no MCP endpoint at its URL (HTTP 404)', false],
  [429, 'text/plain', 'MCP server "remote" limits the rate of calls (HTTP 429)', true],
  [503, 'text/plain', 'MCP server "remote" failed (HTTP 503)', true],
  [200, 'text/html', /^MCP server "remote" violated the protocol: .*text\/html/, false],
  [200, 'application/json', /^MCP server "remote" violated the protocol: .*JSON/, false],
])('the answer %i %s of a server is reported in one line', async (status, type, message, retryable) => {
  const url = await listen((_req, res) => res.writeHead(status, { 'content-type': type }).end('<p>\nno'));
  const fixture = await createMcpFixture({ remote: { url } });
  const error: unknown = await fixture.connect({ name: 'remote' }).catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({
    message: typeof message === 'string' ? message : expect.stringMatching(message),
    retryable,
  });
});

it('a server that refuses the connection is reported in one line', async () => {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  const fixture = await createMcpFixture({ remote: { url: `http://127.0.0.1:${port}/mcp` } });
  await expect(fixture.connect({ name: 'remote' })).rejects.toMatchObject({
    reason: 'upstream_error',
    message: 'MCP server "remote": the backend refused the connection',
    data: { server: 'remote', code: 'ECONNREFUSED' },
    retryable: true,
  });
});

it('a redirect of a registered server to the origin of another one is not followed', async () => {
  const reached: IncomingHttpHeaders[] = [];
  const other = await listen((req, res) => {
    reached.push(req.headers);
    res.end();
  });
  const url = await listen((_req, res) => res.writeHead(307, { location: other }).end());
  const headers = { 'X-Custom-Token': 'canary', Authorization: 'Bearer canary' };
  const fixture = await createMcpFixture({ remote: { url, headers }, other: { url: other } });
  await expect(fixture.connect({ name: 'remote' })).rejects.toMatchObject({ reason: 'forbidden' });
  expect(reached).toEqual([]);
});
