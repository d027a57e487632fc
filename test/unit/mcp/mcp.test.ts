// The client works with MCP servers over stdio: the official ones, both eras of the protocol, and servers that violate
// it, which are ended.
import { describe, expect, it } from 'vitest';
import { createMcpFixture, registeredServers } from '../../support/fixtures/sandbox/mcp.ts';
import { processesWith } from '../../support/fixtures/sandbox/sandbox.ts';
import { describeWith } from '../../support/requirements.ts';

describe('without a sandbox', () => {
  it('a server that is not registered and not described is refused', async () => {
    const fixture = await createMcpFixture({});
    await expect(fixture.connect({ name: 'nobody' })).rejects.toMatchObject({ reason: 'not_found' });
  });

  it('variables and headers that would affect more than the server are refused', async () => {
    const fixture = await createMcpFixture({});
    const name = 'x';
    const stdio = { name, command: 'true', args: [], env: { LD_PRELOAD: '/tmp/x.so' } };
    await expect(fixture.connect({ name }, { config: stdio })).rejects.toMatchObject({
      reason: 'invalid_params',
      data: { issues: [{ path: 'server_config.env.LD_PRELOAD' }] },
    });
    for (const header of ['Host', 'X-API-Key', 'Mcp-Session-Id', 'Content-Length', 'bad name', 'Cookie']) {
      const http = { name, url: 'https://example.com/mcp', headers: { [header]: 'x' } };
      await expect(fixture.connect({ name }, { config: http })).rejects.toMatchObject({
        reason: 'invalid_params',
        data: { issues: [{ path: `server_config.headers.${header}` }] },
      });
    }
  });

  it('no internal address that a caller names is connected', async () => {
    const fixture = await createMcpFixture({});
    for (const url of ['http://127.0.0.1:9/mcp', 'http://169.254.169.254/mcp', 'http://metadata.google.internal/mcp']) {
      const config = { name: 'x', url, headers: {} };
      await expect(fixture.connect({ name: 'x' }, { config })).rejects.toMatchObject({ reason: 'forbidden' });
    }
    expect(await fixture.mcp.list('a', undefined)).toEqual([]);
  });
});

describeWith('bubblewrap', 'MCP servers in the sandbox', async () => {
  const marker = String(200_000 + Math.floor(Math.random() * 1e8));
  const modes = [
    'digits',
    'growing',
    'odd',
    'modern',
    'fragile',
    'loud',
    'huge',
    'deep',
    'failing',
    'slow',
    'many',
    'unread',
    'family',
  ];
  const fixture = await createMcpFixture(registeredServers(modes, marker));

  it('the official servers are connected in the caller’s own workspace', async () => {
    const [everything, files] = await Promise.all([
      fixture.connect({ name: 'everything' }),
      fixture.connect({ name: 'files' }),
    ]);
    expect(everything).toMatchObject({
      name: 'everything',
      sessionId: 's',
      transport: 'stdio',
      server: { name: 'mcp-servers/everything' },
      protocolVersion: '2025-11-25',
    });
    expect(everything.tools.find(({ name }) => name === 'get-sum')?.inputSchema).toMatchObject({ type: 'object' });
    expect(files.server.name).toBe('secure-filesystem-server');
    expect(await fixture.call({ name: 'everything' }, 'get-sum', { a: 2, b: 3 })).toMatchObject({
      content: [{ type: 'text', text: 'The sum of 2 and 3 is 5.' }],
    });
    await fixture.call({ name: 'files' }, 'write_file', { path: '/home/user/note.txt', content: 'from the tool' });
    expect((await fixture.sh('cat note.txt')).stdout.toString()).toBe('from the tool');
    expect(await fixture.call({ name: 'files' }, 'read_text_file', { path: '/etc/passwd' })).toMatchObject({
      isError: true,
    });
    await Promise.all([
      fixture.mcp.disconnect({ owner: 'a', sessionId: 's', name: 'everything' }),
      fixture.mcp.disconnect({ owner: 'a', sessionId: 's', name: 'files' }),
    ]);
    expect(await processesWith(marker)).toEqual([]);
  });

  it('an MCP server is found without a session while its name is connected once, and never through another session', async () => {
    const act = (sessionId: string | undefined) => fixture.call({ name: 'fragile', sessionId }, 'act');
    const missing = { reason: 'not_found' };
    await fixture.connect({ name: 'fragile', sessionId: 'one' });
    expect(await act(undefined)).toMatchObject({ content: expect.any(Array) });
    await expect(act('two')).rejects.toMatchObject(missing);
    await expect(fixture.call({ owner: 'b', name: 'fragile', sessionId: undefined }, 'act')).rejects.toMatchObject(
      missing,
    );
    await fixture.connect({ name: 'fragile', sessionId: 'two' });
    await expect(act(undefined)).rejects.toMatchObject(missing);
    await fixture.mcp.disconnect({ owner: 'a', sessionId: 'one', name: 'fragile' });
    const handle = { owner: 'a', sessionId: undefined, name: 'fragile' };
    expect(await fixture.mcp.disconnect(handle)).toEqual({ handle: { ...handle, sessionId: 'two' }, isLast: true });
    // A connection without a session serves each session that has none of its name.
    await fixture.connect(handle);
    expect(await act('three')).toMatchObject({ content: expect.any(Array) });
    await fixture.mcp.disconnect(handle);
  });

  it('the stateless protocol of 2026 is used with a server that supports no other', async () => {
    const { protocolVersion, tools } = await fixture.connect({ name: 'modern' });
    expect(protocolVersion).toBe('2026-07-28');
    expect(tools.map(({ name }) => name)).toEqual(['add']);
    expect(await fixture.call({ name: 'modern' }, 'add', { a: 2, b: 40 })).toMatchObject({ content: [{ text: '42' }] });
  });

  it('a server that exits at an unknown first request is connected, and so is one that prints to its stdout', async () => {
    const [fragile, loud] = await Promise.all([
      fixture.connect({ name: 'fragile' }),
      fixture.connect({ name: 'loud' }),
    ]);
    expect([fragile.protocolVersion, loud.protocolVersion]).toEqual(['2025-06-18', '2025-06-18']);
    // The output schema has a pattern that would run without end on this result.
    expect(await fixture.call({ name: 'loud' }, 'act')).toMatchObject({ content: [{ text: 'loud' }] });
  });

  it('the caller’s command runs with its arguments and variables; a program that is no server is an error with its stderr', async () => {
    const config = {
      name: 'none',
      command: 'sh',
      args: ['-c', 'echo "no module named mcp_server" >&2; exit 1'],
      env: {},
    };
    await expect(fixture.connect({ name: 'none' }, { config })).rejects.toMatchObject({
      reason: 'upstream_error',
      data: { server: 'none', exit_code: 1, stderr: 'no module named mcp_server\n' },
    });
    const failing = { ...config, args: ['-c', 'echo "<$0 $1 $GREETING>" >&2', 'a', 'b'], env: { GREETING: 'hello' } };
    await expect(fixture.connect({ name: 'none' }, { config: failing })).rejects.toMatchObject({
      data: { stderr: '<a b hello>\n' },
    });
    const missing = { ...config, command: 'no-such-program' };
    await expect(fixture.connect({ name: 'none' }, { config: missing })).rejects.toMatchObject({
      reason: 'upstream_error',
      data: { exit_code: 127 },
    });
    const chatter = { ...config, args: ['-c', 'yes x | head -c 100000 >&2; exit 1'] };
    const error = await fixture.connect({ name: 'none' }, { config: chatter }).catch((thrown: unknown) => thrown);
    expect(JSON.stringify(error).length).toBeLessThan(10_000);
    expect((await fixture.mcp.list('a', 's')).map(({ name }) => name)).not.toContain('none');
  });

  it('connecting stops when the caller disconnects, and leaves no process', async () => {
    const config = { name: 'sleeper', command: 'sleep', args: [`${marker}.5`], env: {} };
    const leaving = new AbortController();
    const connecting = fixture.connect({ name: 'sleeper' }, { config, signal: leaving.signal });
    const caught = expect(connecting).rejects.toMatchObject({ reason: 'cancelled' });
    await expect(fixture.connect({ name: 'sleeper' }, { config })).rejects.toMatchObject({ reason: 'conflict' });
    leaving.abort();
    await caught;
    expect(await processesWith(`${marker}.5`)).toEqual([]);
  });

  it('a server that sends a message over the bound is ended, and the call with it', async () => {
    await fixture.connect({ name: 'huge' });
    await expect(fixture.call({ name: 'huge' }, 'act')).rejects.toMatchObject({
      reason: 'upstream_error',
      message: 'MCP server "huge": a message is larger than 4 MiB, the limit of the gateway',
      retryable: false,
    });
    // It is started again, once.
    await expect(fixture.call({ name: 'huge' }, 'act')).rejects.toMatchObject({ reason: 'upstream_error' });
    await expect(fixture.call({ name: 'huge' }, 'act')).rejects.toMatchObject({ reason: 'not_found' });
  });

  it('a server that sends requests without reading the answers is ended', async () => {
    await fixture.connect({ name: 'unread' });
    // 8 MiB have to be written before the server is ended, within the owner's share of the event loop.
    const call = fixture.call({ name: 'unread' }, 'act', {}, 50_000);
    await expect(call).rejects.toMatchObject({ reason: 'upstream_error' });
  });

  it.each([
    [
      'failing',
      { reason: 'upstream_error', message: expect.stringContaining('no such luck'), data: { mcp_code: -32000 } },
    ],
    ['deep', { reason: 'upstream_error', message: expect.stringContaining('deeper than 64'), retryable: false }],
  ])('the error of a server that is %s is returned', async (name, error) => {
    await fixture.connect({ name });
    await expect(fixture.call({ name }, 'act')).rejects.toMatchObject(error);
  });

  it('the first 256 tools of a server are offered, the others reported, and any on the allow-list', async () => {
    const first = await fixture.connect({ name: 'many' });
    expect(first.tools).toHaveLength(256);
    expect(first.omitted).toHaveLength(44);
    expect(first.omitted[0]).toEqual({
      tool: 'act-256',
      reason: 'the server offers more than 256 tools: name those needed in allowed_tools',
    });
    await expect(fixture.call({ name: 'many' }, 'act-299')).rejects.toMatchObject({
      reason: 'not_found',
      message: expect.stringContaining('allowed_tools'),
    });
    await fixture.mcp.disconnect({ owner: 'a', sessionId: 's', name: 'many' });
    const chosen = await fixture.connect({ name: 'many' }, { allowedTools: ['act-299'] });
    expect(chosen).toMatchObject({ tools: [{ name: 'act-299' }], omitted: [] });
    expect(await fixture.call({ name: 'many' }, 'act-299')).toMatchObject({ content: [{ text: 'many' }] });
    await fixture.mcp.disconnect({ owner: 'a', sessionId: 's', name: 'many' });
  });

  it('the valid tools of a server are offered, and the reasons why others are omitted are reported', async () => {
    const { tools, omitted } = await fixture.connect({ name: 'odd' });
    expect(tools.map(({ name }) => name)).toEqual([
      'act',
      'untyped',
      'broken',
      'list',
      'missing',
      'bounded',
      'find_page',
      'last',
    ]);
    expect(tools.find(({ name }) => name === 'bounded')?.inputSchema).toEqual({
      type: 'object',
      properties: { n: { type: 'integer' } },
    });
    expect(omitted.map(({ tool, reason }) => `${tool.slice(0, 9)}: ${reason}`)).toEqual([
      ': it is not an object',
      ': it has no name',
      'act: another tool of the server has this name',
      'deep: its description is nested deeper than 64 levels',
      'text: its input schema is not an object',
      'aaaaaaaaa: its name is longer than 256 characters',
      'exact: its input schema requires a number that would lose digits',
    ]);
    for (const tool of ['act', 'broken', 'last']) {
      expect(await fixture.call({ name: 'odd' }, tool)).toMatchObject({ content: [{ text: '{}' }] });
    }
    await fixture.mcp.disconnect({ owner: 'a', sessionId: 's', name: 'odd' });
  });

  it('every digit of a tool’s result is kept', async () => {
    await fixture.connect({ name: 'digits' });
    expect(await fixture.call({ name: 'digits' }, 'act')).toMatchObject({
      content: [{ type: 'text', text: 'x', _meta: { n: '9007199254740993' } }],
      structuredContent: '{"id":9007199254740993,"rate":1.0000000000000000001,"small":0.5}',
    });
    await fixture.mcp.disconnect({ owner: 'a', sessionId: 's', name: 'digits' });
  });

  it('the tools are listed again when the server announces a change', async () => {
    await fixture.connect({ name: 'growing', sessionId: 'growing' });
    const names = async () => (await fixture.toolset('growing'))?.tools.map(({ tool }) => tool);
    for (const count of [2, 3, 4]) {
      await fixture.call({ name: 'growing', sessionId: 'growing' }, 'act');
      // The notifications follow the answer on the same pipe; a list requested after them is answered after them.
      await expect.poll(async () => (await names())?.length).toBe(count);
    }
    expect(await names()).toEqual(['act', 'act-1', 'act-2', 'act-3']);
    await fixture.mcp.disconnect({ owner: 'a', sessionId: 'growing', name: 'growing' });
  });

  it('a call ends at its timeout', async () => {
    await fixture.connect({ name: 'slow' });
    const { signal } = new AbortController();
    const call = { tool: 'act', arguments: {}, timeoutMs: 100, signal };
    await expect(fixture.mcp.call({ owner: 'a', sessionId: 's', name: 'slow' }, call)).rejects.toMatchObject({
      reason: 'upstream_timeout',
      message: 'MCP server "slow" did not answer in time',
      // The tool may have run, and is not annotated as safe to repeat.
      retryable: false,
    });
  });

  it('a disconnected server leaves no process, nor do its daemons', async () => {
    await fixture.connect({ name: 'family' });
    expect((await processesWith(marker)).length).toBeGreaterThan(0);
    await fixture.mcp.disconnect({ owner: 'a', sessionId: 's', name: 'family' });
    expect((await processesWith(marker)).filter((line) => line.startsWith('sleep'))).toEqual([]);
  });

  it('only the tools on the allow-list are offered', async () => {
    const { tools } = await fixture.connect({ name: 'everything' }, { allowedTools: ['echo', 'no-such-tool'] });
    expect(tools.map(({ name }) => name)).toEqual(['echo']);
    await expect(fixture.call({ name: 'everything' }, 'get-sum', { a: 1, b: 1 })).rejects.toMatchObject({
      reason: 'not_found',
    });
    const { tools: offered = [] } = (await fixture.toolset('s')) ?? {};
    expect(offered.filter(({ server }) => server === 'everything')).toHaveLength(1);
  });

  it('the same configuration returns the same connection, and another one under its name is refused', async () => {
    const first = await fixture.connect({ name: 'everything' }, { allowedTools: ['echo', 'no-such-tool'] });
    expect(await fixture.mcp.list('a', 's')).toContain(first);
    await expect(fixture.connect({ name: 'everything' })).rejects.toMatchObject({ reason: 'conflict' });
  });

  it('a server that has been idle for its time is disconnected', async () => {
    const idle = await createMcpFixture(registeredServers(['loud']), { idleMs: 50 });
    await idle.connect({ name: 'loud' });
    await expect.poll(() => idle.mcp.list('a', undefined)).toEqual([]);
    await expect(idle.call({ name: 'loud' }, 'act')).rejects.toMatchObject({ reason: 'not_found' });
  });

  it('all connections end on close, and new ones are refused', async () => {
    const other = await createMcpFixture(registeredServers(['family'], `${marker}9`));
    await other.connect({ name: 'family' });
    await other.mcp.close();
    expect((await processesWith(`${marker}9`)).filter((line) => line.startsWith('sleep'))).toEqual([]);
    await expect(other.connect({ name: 'family' })).rejects.toMatchObject({ reason: 'unavailable' });
  });

  it('a server with secrets has a home that no caller can write to', async () => {
    const server = {
      command: 'sh',
      args: ['-c', 'ls ~ >&2; echo "$TOKEN" >&2; exit 9'],
      env: { TOKEN: 'canary-secret' },
    };
    const trusted = await createMcpFixture({ trusted: server });
    await trusted.sh('echo planted > ~/planted.py');
    const error = await trusted.connect({ name: 'trusted' }).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ reason: 'upstream_error', data: { exit_code: 9 } });
    // The error and the log contain none of its output either.
    expect(JSON.stringify([error, trusted.logged])).not.toMatch(/planted|canary-secret/);
  });
});
