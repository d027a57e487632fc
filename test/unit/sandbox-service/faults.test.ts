// After a fault between a gateway and the sandbox service, in separate processes, every call ends, its error states
// whether it may have had an effect, and the next call is served.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Client, connect, type Message } from '../../support/fixtures/gateway/companion.ts';
import { type LocalGateway, startLocalGateway } from '../../support/fixtures/gateway/local-gateway.ts';
import { type LinkProxy, startLinkProxy } from '../../support/fixtures/network/link-proxy.ts';
import { processesWith } from '../../support/fixtures/sandbox/sandbox.ts';
import { freshMark, TOKEN } from '../../support/fixtures/sandbox/sandbox-ports.ts';
import { freePort, type SandboxService, startSandboxService } from '../../support/fixtures/sandbox/sandbox-service.ts';
import { describeWith } from '../../support/requirements.ts';

/** Long enough for two processes on a busy machine to answer; unwatched terminals outlast a link that is over. */
const times = { pingMs: 300, silenceMs: 2_500, overMs: 6_000, tickMs: 100, handshakeMs: 4_000 };
const settings = { times, terminals: { unwatchedMs: 15_000 } };
const PATCH = '--- a/file\n+++ b/file\n@@ -1 +1 @@\n-old\n+new\n';
const NOT_STARTED = { code: 503, data: { reason: 'unavailable', retryable: true, may_have_effect: false } };
const LOST = { code: 503, data: { reason: 'unavailable', retryable: false, may_have_effect: true } };

/** A server in the caller's sandbox whose tool becomes a process that is found by its mark, and does not answer. */
const MCP_SERVER = `
while read -r line; do
  id=$(printf %s "$line" | sed -n 's/.*"id":\\("[^"]*"\\|[0-9]*\\).*/\\1/p')
  case $line in
    *'"initialize"'*) answer='"result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},
      "serverInfo":{"name":"shell","version":"1"}}' ;;
    *'"tools/list"'*) answer='"result":{"tools":[{"name":"act","inputSchema":{"type":"object"}}]}' ;;
    *'"tools/call"'*) exec sleep "$MARK" ;;
    *) answer='"error":{"code":-32601,"message":"none"}' ;;
  esac
  [ -z "$id" ] || printf '{"jsonrpc":"2.0","id":%s,%s}\\n' "$id" "$answer" | tr -d '\\n' && echo
done`;

const startGateway = (url: string): Promise<LocalGateway> => {
  const env = { SANDBOX_URL: url, SANDBOX_TOKEN: TOKEN, GATEWAY_LIMITS: '1000000/minute', GATEWAY_LOG: 'json' };
  return startLocalGateway({ settings: { times }, env });
};

async function post({ url }: LocalGateway, method: string, params: object): Promise<Message> {
  const response = await fetch(`${url}/jsonrpc`, {
    method: 'POST',
    headers: { 'X-API-Key': 'dev-key' },
    body: JSON.stringify({ jsonrpc: '2.0', method, params, id: 1 }),
  });
  return response.json() as Promise<Message>;
}

const shell = (script: string): object => ({ command: 'sh', args: ['-c', script] });
const isRunning = async (mark: string): Promise<boolean> => (await processesWith(mark)).length > 0;
const openSocket = ({ url }: LocalGateway): Promise<Client> => connect(`${url.replace('http', 'ws')}/ws`);
const output = ({ received }: Client): string =>
  received.flatMap(({ method, params }) => (method === 'interactive.output' ? String(params?.data) : [])).join('');

async function expectUsable(gateway: LocalGateway): Promise<void> {
  expect((await post(gateway, 'exec', shell('echo usable'))).result).toMatchObject({ stdout: 'usable\n' });
}

/** Resolves when its tool runs, with the call. */
async function callTool(gateway: LocalGateway, mark: string): Promise<{ readonly answer: Promise<Message> }> {
  const config = { name: 'tool', command: 'sh', args: ['-c', MCP_SERVER], env: { MARK: mark } };
  const connected = await post(gateway, 'mcp.connect', { server_config: config });
  expect(connected.result).toMatchObject({ name: 'tool' });
  const answer = post(gateway, 'mcp.call', { name: 'tool', tool: 'act' });
  await expect.poll(() => isRunning(mark)).toBe(true);
  return { answer };
}

describeWith('bubblewrap', 'faults of the sandbox service', () => {
  const dataDir = mkdtempSync(join(tmpdir(), 'sandbox-faults-'));
  let port: number;
  let service: SandboxService;
  let proxy: LinkProxy;
  let gateway: LocalGateway;
  const restart = async (more: object = {}): Promise<void> => {
    service = await startSandboxService({ port, dataDir, settings: { ...settings, ...more } });
  };
  beforeAll(async () => {
    port = await freePort();
    await restart();
    proxy = await startLinkProxy(port);
    gateway = await startGateway(proxy.url);
  });
  afterAll(async () => {
    await gateway.stop();
    await proxy.stop();
    await service.end();
    rmSync(dataDir, { recursive: true });
  });

  it('a service that is killed in the middle of a patch may have applied it, and the next patch is applied', async () => {
    const repo = `repo-${freshMark()}`;
    // Git reads all of a file that it changes: the kill comes in the middle.
    await post(gateway, 'exec', shell(`mkdir ${repo}; (echo old; yes | head -c 60000000) > ${repo}/file`));
    const call = post(gateway, 'apply', { patch: PATCH, repo_path: `/home/user/${repo}` });
    await expect.poll(() => isRunning(repo), { interval: 20 }).toBe(true);
    await service.end('SIGKILL');
    await restart();
    expect((await call).error).toMatchObject(LOST);
    await expect.poll(() => isRunning(repo)).toBe(false);
    await post(gateway, 'exec', shell(`echo old > ${repo}/file`));
    const again = await post(gateway, 'apply', { patch: PATCH, repo_path: `/home/user/${repo}` });
    expect(again.result).toMatchObject({ applied: true });
  });

  it('a service that is killed in the middle of a tool call may have run it, and the next call starts the server', async () => {
    const mark = freshMark();
    const { answer } = await callTool(gateway, mark);
    await service.end('SIGKILL');
    await restart();
    expect((await answer).error).toMatchObject(LOST);
    await expect.poll(() => isRunning(mark)).toBe(false);
    const cancelled = post(gateway, 'mcp.call', { name: 'tool', tool: 'act' });
    await expect.poll(() => isRunning(mark)).toBe(true);
    await post(gateway, 'mcp.disconnect', { name: 'tool' });
    expect((await cancelled).error).toBeDefined();
    await expect.poll(() => isRunning(mark)).toBe(false);
  });

  it('a connection that is cut loses nothing', async () => {
    const client = await openSocket(gateway);
    const session_id = 'cut';
    await client.call('interactive.start', { session_id });
    const mark = freshMark();
    const call = post(gateway, 'exec', shell(`sleep 1; echo ${mark}`));
    await expect.poll(() => isRunning(mark)).toBe(true);
    proxy.cut();
    await client.call('interactive.input', { session_id, data: 'echo a""fter\r' });
    await client.until(() => output(client).includes('after'));
    expect((await call).result).toMatchObject({ stdout: `${mark}\n`, exit_code: 0 });
    await client.call('interactive.close', { session_id });
    client.socket.close();
  });

  it('a connection that loses everything: calls end, what ran for them is ended, terminals continue', async () => {
    const client = await openSocket(gateway);
    const session_id = 'lost';
    await client.call('interactive.start', { session_id });
    await client.call('interactive.input', { session_id, data: 'X=kept; echo rea""dy\r' });
    await client.until(() => output(client).includes('ready'));
    const [command, tool] = [freshMark(), freshMark()];
    const call = post(gateway, 'exec', shell(`sleep ${command}`));
    const { answer } = await callTool(gateway, tool);
    await expect.poll(() => isRunning(command)).toBe(true);
    proxy.loseAll(true);
    const [lost, lostTool] = await Promise.all([call, answer]);
    expect(lost.error).toMatchObject(LOST);
    expect(lostTool.error).toMatchObject(LOST);
    proxy.loseAll(false);
    await expectUsable(gateway);
    await client.call('interactive.input', { session_id, data: 'echo "<$X>"\r' });
    await client.until(() => output(client).includes('<kept>'));
    await expect.poll(() => Promise.all([command, tool].map(isRunning))).toEqual([false, false]);
    await client.call('interactive.close', { session_id });
    client.socket.close();
  });

  it('a slow connection: calls take longer', async () => {
    proxy.delay(200);
    const { result } = await post(gateway, 'exec', shell('head -c 300000 /dev/zero'));
    expect(String(result?.stdout)).toHaveLength(300_000);
    const client = await openSocket(gateway);
    const session_id = 'slow';
    await client.call('interactive.start', { session_id });
    await client.call('interactive.input', { session_id, data: 'echo rea""dy\r' });
    await client.until(() => output(client).includes('ready'));
    await client.call('interactive.close', { session_id });
    client.socket.close();
    proxy.delay(0);
  });

  it('a service of another version starts nothing, and the log contains the reason', async () => {
    await service.end();
    await restart({ protocol: { min: 2, max: 2 } });
    await expect
      .poll(async () => (await post(gateway, 'exec', shell('true'))).error)
      .toMatchObject({ ...NOT_STARTED, message: expect.stringContaining('nothing was started') });
    await expect.poll(() => gateway.output()).toMatch(/sandbox service cannot be reached.*supports versions 2 to 2/);
    await service.end();
    await restart();
    await expectUsable(gateway);
  });

  it('a gateway that is killed leaves no process behind', async () => {
    // A service of its own, whose unwatched terminals end soon.
    const own = mkdtempSync(join(tmpdir(), 'sandbox-faults-'));
    const terminals = { unwatchedMs: 500 };
    const watchful = await startSandboxService({ dataDir: own, settings: { times, terminals } });
    const other = await startGateway(watchful.url);
    const [command, tool, terminal] = [freshMark(), freshMark(), freshMark()];
    const client = await openSocket(other);
    await client.call('interactive.start', { session_id: 'left' });
    await client.call('interactive.input', { session_id: 'left', data: `sleep ${terminal}\r` });
    const call = post(other, 'exec', shell(`sleep ${command}`)).catch(() => undefined);
    const { answer } = await callTool(other, tool);
    await expect.poll(() => Promise.all([command, tool, terminal].map(isRunning))).toEqual([true, true, true]);
    other.child.kill('SIGKILL');
    await Promise.all([call, answer.catch(() => undefined), client.closed]);
    await expect.poll(() => Promise.all([command, tool, terminal].map(isRunning))).toEqual([false, false, false]);
    await other.stop();
    const next = await startGateway(watchful.url);
    await expectUsable(next);
    await next.stop();
    await watchful.end();
    rmSync(own, { recursive: true });
  });
});
