// Of two gateways on one store and one sandbox service, each serves what the other has started, also when the other has
// been killed. Each is a process of its own.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { startModelProvider } from '../../support/fakes/model-provider/model-provider.ts';
import { type Client, connect, type Message } from '../../support/fixtures/gateway/companion.ts';
import { type LocalGateway, startLocalGateway } from '../../support/fixtures/gateway/local-gateway.ts';
import { registeredServers } from '../../support/fixtures/sandbox/mcp.ts';
import { TOKEN } from '../../support/fixtures/sandbox/sandbox-ports.ts';
import { freePort, type SandboxService, startSandboxService } from '../../support/fixtures/sandbox/sandbox-service.ts';
import { describeWith } from '../../support/requirements.ts';

const output = ({ received }: Client): string =>
  received.flatMap(({ method, params }) => (method === 'interactive.output' ? String(params?.data) : [])).join('');
const socketOf = ({ url }: LocalGateway): Promise<Client> => connect(`${url.replace('http', 'ws')}/ws`);
const PROMPT = '[[tool modern__add {"a": 2, "b": 40}]] add them';

describeWith('bubblewrap', 'two gateways with one sandbox service', async () => {
  const dataDir = mkdtempSync(join(tmpdir(), 'two-sandbox-'));
  const store = mkdtempSync(join(tmpdir(), 'two-gateways-'));
  const MCP_SERVERS = JSON.stringify(registeredServers(['modern']));
  const provider = await startModelProvider();
  let port: number;
  let service: SandboxService;
  let first: LocalGateway;
  let second: LocalGateway;
  const startService = (): Promise<SandboxService> => startSandboxService({ port, dataDir, env: { MCP_SERVERS } });
  const startGateway = (): Promise<LocalGateway> =>
    startLocalGateway({
      env: {
        ...{ SANDBOX_URL: service.url, SANDBOX_TOKEN: TOKEN, GATEWAY_DATA_DIR: store },
        ...{ ANTHROPIC_API_KEY: 'test', ANTHROPIC_BASE_URL: provider.url, MODEL: 'anthropic/claude-sonnet-4-5' },
      },
    });
  const post = async ({ url }: LocalGateway, method: string, params: object): Promise<Message> => {
    const response = await fetch(`${url}/jsonrpc`, {
      method: 'POST',
      headers: { 'X-API-Key': 'dev-key' },
      body: JSON.stringify({ jsonrpc: '2.0', method, params, id: 1 }),
    });
    return response.json() as Promise<Message>;
  };
  const prompt = async (gateway: LocalGateway, session_id: string): Promise<string> =>
    JSON.stringify(await post(gateway, 'conversation.prompt', { prompt: PROMPT, session_id }));
  beforeAll(async () => {
    port = await freePort();
    service = await startService();
    [first, second] = await Promise.all([startGateway(), startGateway()]);
  });
  afterAll(async () => {
    await Promise.all([first.stop(), second.stop()]);
    await service.end();
    await provider.close();
    for (const path of [dataDir, store]) rmSync(path, { recursive: true, force: true });
  });

  it('a gateway reads and types into a terminal of the other, also when that has been killed', async () => {
    const session_id = 'shared';
    const starter = await socketOf(first);
    await starter.call('interactive.start', { session_id });
    const other = await socketOf(second);
    await other.call('interactive.input', { session_id, data: 'echo sec""ond\r' });
    await Promise.all([starter, other].map((client) => client.until(() => /second/.test(output(client)))));
    first.child.kill('SIGKILL');
    await other.call('interactive.input', { session_id, data: 'echo af""ter\r' });
    await other.until(() => /after/.test(output(other)));
    first = await startGateway();
    const again = await socketOf(first);
    expect((await again.call('interactive.start', { session_id })).result).toMatchObject({ resumed: true });
    await again.until(() => /after/.test(output(again)));
    await again.call('interactive.close', { session_id });
    for (const client of [other, again]) client.socket.close();
  });

  it('a gateway gives prompts the MCP servers of the other, also when that has been killed', async () => {
    const session_id = 'tools';
    const connected = await post(first, 'mcp.connect', { server_config: { name: 'modern' }, session_id });
    expect(connected.error).toBeUndefined();
    expect(await prompt(first, session_id)).not.toContain('restarted_servers');
    first.child.kill('SIGKILL');
    expect(await prompt(second, session_id)).toMatch(/"restarted_servers":\["modern"\].*The tool said: 42/);
    expect(await prompt(second, session_id)).not.toContain('restarted_servers');
    first = await startGateway();
    expect(await prompt(first, session_id)).toContain('The tool said: 42');
    await post(second, 'mcp.disconnect', { name: 'modern', session_id });
  });

  it('an MCP server is started again when the sandbox was recycled', async () => {
    const session_id = 'recycled';
    await post(second, 'mcp.connect', { server_config: { name: 'modern' }, session_id });
    await service.end('SIGKILL');
    service = await startService();
    // A call may still meet the process that is gone, until the gateway has found the new sandbox.
    await expect.poll(() => prompt(second, session_id)).toMatch(/"restarted_servers":\["modern"\].*The tool said: 42/);
  });
});
