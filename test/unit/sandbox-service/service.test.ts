// Everything that a gateway with a sandbox service runs for callers runs in the service, and each call has a defined
// end when one of the two is killed. Both are processes of their own.
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createSandboxServer } from '../../../functions/sandbox/server.ts';
import { loadSandboxConfig } from '../../../shared/config/sandbox-service.ts';
import { createLogger } from '../../../shared/log.ts';
import { type Client, connect, type Message } from '../../support/fixtures/gateway/companion.ts';
import { type LocalGateway, startLocalGateway } from '../../support/fixtures/gateway/local-gateway.ts';
import type { SandboxSettings } from '../../support/fixtures/process/sandbox-settings.ts';
import { processesWith } from '../../support/fixtures/sandbox/sandbox.ts';
import { freshMark, TOKEN } from '../../support/fixtures/sandbox/sandbox-ports.ts';
import { freePort, type SandboxService, startSandboxService } from '../../support/fixtures/sandbox/sandbox-service.ts';
import { describeWith } from '../../support/requirements.ts';

const startGateway = (sandboxUrl: string, settings?: SandboxSettings): Promise<LocalGateway> =>
  startLocalGateway({
    ...(settings && { settings }),
    env: { SANDBOX_URL: sandboxUrl, SANDBOX_TOKEN: TOKEN, GATEWAY_LIMITS: '1000000/minute', GATEWAY_LOG: 'json' },
  });

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
const output = ({ received }: Client): string =>
  received.flatMap(({ method, params }) => (method === 'interactive.output' ? String(params?.data) : [])).join('');

describeWith('bubblewrap', 'a gateway with a sandbox service', () => {
  const dataDir = mkdtempSync(join(tmpdir(), 'sandbox-service-'));
  let port: number;
  let service: SandboxService;
  let gateway: LocalGateway;
  beforeAll(async () => {
    port = await freePort();
    service = await startSandboxService({ port, dataDir });
    gateway = await startGateway(service.url);
  });
  afterAll(async () => {
    await gateway.stop();
    await service.end();
    rmSync(dataDir, { recursive: true });
  });
  const restart = async (): Promise<void> => {
    service = await startSandboxService({ port, dataDir });
  };
  const open = (): Promise<Client> => connect(`${gateway.url.replace('http', 'ws')}/ws`);

  it('commands and patches run in the service, over HTTP', async () => {
    const { result } = await post(gateway, 'exec', { ...shell('cat; pwd; exit 3'), stdin: 'in ', cwd: '/tmp' });
    expect(result).toMatchObject({ stdout: 'in /tmp\n', exit_code: 3 });
    expect(existsSync(join(dataDir, 'workspaces'))).toBe(true);
    await post(gateway, 'exec', shell('git init -q repo; echo old > repo/file'));
    const patch = '--- a/file\n+++ b/file\n@@ -1 +1 @@\n-old\n+new\n';
    expect((await post(gateway, 'apply', { patch, repo_path: '/home/user/repo' })).result).toMatchObject({
      applied: true,
    });
    expect((await post(gateway, 'exec', shell('cat repo/file'))).result).toMatchObject({ stdout: 'new\n' });
    const health = await fetch(`${gateway.url}/health?verbose=1`, { headers: { 'X-API-Key': 'dev-key' } });
    expect(await health.json()).toMatchObject({ status: 'healthy', checks: { sandbox: { status: 'ok' } } });
  });

  it('commands and terminals of the service are streamed over a WebSocket', async () => {
    const client = await open();
    const { result } = await client.call('exec', { ...shell('echo one; echo two >&2'), stream: true });
    expect(result).toMatchObject({ stdout: 'one\n', stderr: 'two\n' });
    expect(client.received.filter(({ method }) => method === 'workspace.event').length).toBeGreaterThan(2);
    const session_id = 'terminal';
    expect((await client.call('interactive.start', { session_id, cols: 100 })).result).toMatchObject({ cols: 100 });
    await client.call('interactive.input', { session_id, data: 'stty size; echo d""one\r' });
    await client.until(() => /24 100[\s\S]*done/.test(output(client)));
    await client.call('interactive.input', { session_id, data: 'exit 7\r' });
    const exit = await client.until(({ method }) => method === 'interactive.exit');
    expect(exit.params).toEqual({ session_id, exit_code: 7 });
    await expect
      .poll(() => gateway.output())
      .toMatch(/"message":"command".*"method":"interactive.start".*"exit_code":7/);
    client.socket.close();
  });

  it('a command of a killed service reports that it may have had an effect, and the next one runs', async () => {
    const mark = freshMark();
    const call = post(gateway, 'exec', shell(`sleep ${mark}`));
    await expect.poll(() => isRunning(mark)).toBe(true);
    await service.end('SIGKILL');
    await restart();
    expect((await call).error).toMatchObject({
      code: 503,
      message: expect.stringContaining('may have had an effect'),
      data: { reason: 'unavailable', retryable: false, may_have_effect: true },
    });
    await expect.poll(() => isRunning(mark)).toBe(false);
    expect((await post(gateway, 'exec', { command: 'echo', args: ['again'] })).result).toMatchObject({
      stdout: 'again\n',
    });
  });

  it('a gateway with a sandbox service ends a terminal of a service that was killed, and starts another one', async () => {
    const client = await open();
    const session_id = 'lost';
    await client.call('interactive.start', { session_id });
    await client.until(({ method }) => method === 'interactive.output');
    await service.end('SIGKILL');
    await restart();
    const exit = await client.until(({ method }) => method === 'interactive.exit');
    expect(exit.params).toEqual({ session_id, exit_code: 137 });
    expect((await client.call('interactive.start', { session_id })).result).toMatchObject({ resumed: false });
    await client.call('interactive.close', { session_id });
    client.socket.close();
  });

  it('a gateway with a sandbox service lets a command end on SIGTERM, and takes no other', async () => {
    const mark = freshMark();
    const call = post(gateway, 'exec', { command: 'sh', args: ['-c', 'sleep 1; echo done', mark] });
    await expect.poll(() => isRunning(mark)).toBe(true);
    const ended = service.end();
    expect((await call).result).toMatchObject({ stdout: 'done\n', exit_code: 0 });
    expect(await ended).toBe(0);
    await restart();
  });

  it('a call without a reachable service reports that nothing was started', async () => {
    await post(gateway, 'exec', { command: 'true' });
    await service.end('SIGKILL');
    expect((await post(gateway, 'exec', { command: 'true' })).error).toMatchObject({
      code: 503,
      data: { reason: 'unavailable', retryable: true, may_have_effect: false },
    });
    await restart();
    expect((await post(gateway, 'exec', { command: 'true' })).result).toMatchObject({ exit_code: 0 });
  });
});

describeWith('bubblewrap', 'a sandbox service whose gateway is killed', () => {
  const dataDir = mkdtempSync(join(tmpdir(), 'sandbox-service-'));
  afterAll(() => rmSync(dataDir, { recursive: true }));

  it('a sandbox service whose gateway is killed ends its commands, and keeps its terminals for the next gateway', async () => {
    const config = loadSandboxConfig({ SANDBOX_TOKEN: TOKEN, GATEWAY_DATA_DIR: dataDir, PATH: process.env.PATH });
    const log = createLogger({ format: 'json', write: () => {} });
    // A gateway that is not killed sends a ping in time, on a busy machine too.
    const times = { pingMs: 300, silenceMs: 2_500, overMs: 3_000, tickMs: 100 };
    const server = createSandboxServer(config, log, { times });
    server.http.listen(0, '127.0.0.1');
    await once(server.http, 'listening');
    const url = `http://127.0.0.1:${(server.http.address() as AddressInfo).port}`;
    const [first, second] = await Promise.all([startGateway(url, { times }), startGateway(url, { times })]);
    try {
      const session_id = 'kept';
      await post(first, 'interactive.start', { session_id });
      await post(first, 'interactive.input', { session_id, data: 'X=kept\r' });
      const mark = freshMark();
      const call = post(first, 'exec', shell(`sleep ${mark}`)).catch(() => undefined);
      await expect.poll(() => isRunning(mark)).toBe(true);
      first.child.kill('SIGKILL');
      await call;
      await expect.poll(() => isRunning(mark)).toBe(false);
      const client = await connect(`${second.url.replace('http', 'ws')}/ws`);
      expect((await client.call('interactive.start', { session_id })).result).toMatchObject({ resumed: true });
      await client.call('interactive.input', { session_id, data: 'echo "<$X>"\r' });
      await client.until(() => output(client).includes('<kept>'));
      client.socket.close();
    } finally {
      await Promise.all([first.stop(), second.stop()]);
      await server.stop(0);
    }
  });
});
