// During a deploy of the sandbox service, with two instances of which the platform leads new connections to the newer
// one, new work starts there and running work ends on the older one. Gateways and services are processes of their own.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Client, connect, type Message } from '../../support/fixtures/gateway/companion.ts';
import { type LocalGateway, startLocalGateway } from '../../support/fixtures/gateway/local-gateway.ts';
import { type LinkProxy, startLinkProxy } from '../../support/fixtures/network/link-proxy.ts';
import { registeredServers } from '../../support/fixtures/sandbox/mcp.ts';
import { processesWith } from '../../support/fixtures/sandbox/sandbox.ts';
import { freshMark, TOKEN } from '../../support/fixtures/sandbox/sandbox-ports.ts';
import { type SandboxService, startSandboxService } from '../../support/fixtures/sandbox/sandbox-service.ts';
import { describeWith } from '../../support/requirements.ts';

const SETTINGS = { boots: { checkMs: 500, retryMs: 50, retryMaxMs: 100 }, drain: { idleMs: 1_000, checkMs: 100 } };
const MCP_SERVERS = JSON.stringify(registeredServers(['modern']));
const shell = (script: string): object => ({ command: 'sh', args: ['-c', script] });
const isRunning = async (mark: string): Promise<boolean> => (await processesWith(mark)).length > 0;
const output = ({ received }: Client): string =>
  received.flatMap(({ method, params }) => (method === 'interactive.output' ? String(params?.data) : [])).join('');
const portOf = ({ url }: SandboxService): number => Number(new URL(url).port);

async function post({ url }: LocalGateway, method: string, params: object): Promise<Message> {
  const response = await fetch(`${url}/jsonrpc`, {
    method: 'POST',
    headers: { 'X-API-Key': 'dev-key' },
    body: JSON.stringify({ jsonrpc: '2.0', method, params, id: 1 }),
  });
  return response.json() as Promise<Message>;
}

describeWith('bubblewrap', 'a newer boot of the sandbox service', () => {
  const store = mkdtempSync(join(tmpdir(), 'boots-store-'));
  const disks = ['older', 'newer'].map((name) => mkdtempSync(join(tmpdir(), `boots-${name}-`)));
  let older: SandboxService;
  let newer: SandboxService;
  let proxy: LinkProxy;
  let gateway: LocalGateway;
  const startService = (disk: number): Promise<SandboxService> =>
    startSandboxService({ dataDir: disks[disk] ?? '', env: { MCP_SERVERS } });
  const startGateway = (): Promise<LocalGateway> => {
    const own = { SANDBOX_URL: proxy.url, SANDBOX_TOKEN: TOKEN, GATEWAY_DATA_DIR: store, GATEWAY_LOG: 'json' };
    return startLocalGateway({ settings: SETTINGS, env: { ...own, GATEWAY_LIMITS: '1000000/minute', MCP_SERVERS } });
  };
  /** Which disk commands of that gateway see. */
  const diskOf = async (from: LocalGateway): Promise<unknown> =>
    (await post(from, 'exec', shell('cat disk 2>/dev/null || echo newer'))).result?.stdout;
  beforeAll(async () => {
    older = await startService(0);
    proxy = await startLinkProxy(portOf(older));
    gateway = await startGateway();
    await post(gateway, 'exec', shell('echo older > disk'));
  });
  afterAll(async () => {
    await gateway.stop();
    await proxy.stop();
    await Promise.all([older.end(), newer.end()]);
    for (const path of [store, ...disks]) rmSync(path, { recursive: true, force: true });
  });

  it('a newer boot of the sandbox service takes new work, while what runs on the older one ends there', async () => {
    const client = await connect(`${gateway.url.replace('http', 'ws')}/ws`);
    const session_id = 'older';
    await client.call('interactive.start', { session_id });
    await client.call('interactive.input', { session_id, data: 'X=kept; cat disk\r' });
    await client.until(() => /older/.test(output(client)));
    await post(gateway, 'mcp.connect', { server_config: { name: 'modern' } });
    const mark = freshMark();
    const script = 'while [ ! -e go ]; do sleep 0.1; done; cat disk';
    const running = post(gateway, 'exec', { command: 'sh', args: ['-c', script, mark] });
    await expect.poll(() => isRunning(mark)).toBe(true);

    newer = await startService(1);
    proxy.lead(portOf(newer));
    // Another gateway process reaches it first.
    const other = await startGateway();
    expect(await diskOf(other)).toBe('newer\n');
    await expect.poll(() => diskOf(gateway)).toBe('newer\n');

    // Its terminal runs on the older one, for a second client, too.
    await client.call('interactive.input', { session_id, data: 'echo "<$X>"\r' });
    await client.until(() => output(client).includes('<kept>'));
    const second = await connect(`${gateway.url.replace('http', 'ws')}/ws`);
    expect((await second.call('interactive.start', { session_id })).result).toMatchObject({ resumed: true });
    await second.until(() => output(second).includes('<kept>'));
    // A tool call starts its server again on the newer one.
    const tool = await post(gateway, 'mcp.call', { name: 'modern', tool: 'add', arguments: { a: 2, b: 40 } });
    expect(JSON.stringify(tool.result)).toContain('42');
    expect(older.output()).not.toContain('sandbox link over');

    await second.call('interactive.input', { session_id, data: 'touch go\r' });
    expect((await running).result).toMatchObject({ stdout: 'older\n' });
    await client.call('interactive.close', { session_id });
    await expect.poll(() => older.output()).toContain('sandbox link over');
    expect(await diskOf(gateway)).toBe('newer\n');
    for (const each of [client, second]) each.socket.close();
    await other.stop();
  });
});
