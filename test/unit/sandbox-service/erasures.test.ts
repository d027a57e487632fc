// A session whose sandbox cannot be reached is deleted at once, and what runs for it ends when a gateway reaches the
// sandbox. Two gateways on one store and one sandbox service run in processes of their own.
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { connect, type Message } from '../../support/fixtures/gateway/companion.ts';
import { type LocalGateway, startLocalGateway } from '../../support/fixtures/gateway/local-gateway.ts';
import { type LinkProxy, startLinkProxy } from '../../support/fixtures/network/link-proxy.ts';
import { processesWith } from '../../support/fixtures/sandbox/sandbox.ts';
import { freshMark, TOKEN } from '../../support/fixtures/sandbox/sandbox-ports.ts';
import { freePort, type SandboxService, startSandboxService } from '../../support/fixtures/sandbox/sandbox-service.ts';
import { describeWith } from '../../support/requirements.ts';

const isRunning = async (mark: string): Promise<boolean> => (await processesWith(mark)).length > 0;

async function post({ url }: LocalGateway, method: string, params: object): Promise<Message> {
  const response = await fetch(`${url}/jsonrpc`, {
    method: 'POST',
    headers: { 'X-API-Key': 'dev-key' },
    body: JSON.stringify({ jsonrpc: '2.0', method, params, id: 1 }),
  });
  return response.json() as Promise<Message>;
}

describeWith('bubblewrap', 'a session that is deleted while its sandbox cannot be reached', () => {
  const dataDir = mkdtempSync(join(tmpdir(), 'erased-sandbox-'));
  const store = mkdtempSync(join(tmpdir(), 'erased-store-'));
  let port: number;
  let service: SandboxService;
  let proxy: LinkProxy;
  let apart: LocalGateway;
  let other: LocalGateway;
  const startService = (): Promise<SandboxService> => startSandboxService({ port, dataDir });
  const startGateway = (url: string): Promise<LocalGateway> => {
    const own = { SANDBOX_URL: url, SANDBOX_TOKEN: TOKEN, GATEWAY_DATA_DIR: store, GATEWAY_LOG: 'json' };
    return startLocalGateway({
      settings: { sweep: { everyMs: 200, reachMs: 500 } },
      env: { ...own, GATEWAY_LIMITS: '1000000/minute' },
    });
  };
  beforeAll(async () => {
    port = await freePort();
    service = await startService();
    proxy = await startLinkProxy(port);
    [apart, other] = await Promise.all([startGateway(proxy.url), startGateway(service.url)]);
  });
  afterAll(async () => {
    await Promise.all([apart.stop(), other.stop()]);
    await proxy.stop();
    await service.end();
    for (const path of [dataDir, store]) rmSync(path, { recursive: true, force: true });
  });

  it('a recorded erasure is carried out by another gateway that reaches the service', async () => {
    const session_id = 'apart';
    await post(apart, 'conversation.prompt', { prompt: 'hello', session_id, model: 'offline/echo' });
    const client = await connect(`${other.url.replace('http', 'ws')}/ws`);
    await client.call('interactive.start', { session_id });
    const mark = freshMark();
    await client.call('interactive.input', { session_id, data: `sleep ${mark}\r` });
    await post(apart, 'exec', { command: 'true' });
    await expect.poll(() => isRunning(mark)).toBe(true);
    proxy.loseAll(true);
    expect((await post(apart, 'conversation.delete', { session_id })).result).toEqual({ deleted: true, session_id });
    const exit = await client.until(({ method }) => method === 'interactive.exit');
    expect(exit.params).toMatchObject({ session_id });
    await expect.poll(() => isRunning(mark)).toBe(false);
    proxy.loseAll(false);
    client.socket.close();
  });

  it('a session is deleted while there is no service; one that starts again removes the files of the one before', async () => {
    const session_id = 'away';
    await post(apart, 'conversation.prompt', { prompt: 'hello', session_id, model: 'offline/echo' });
    const homes = join(dataDir, 'codex');
    mkdirSync(join(homes, `home-${service.pid}-1-left`), { recursive: true });
    mkdirSync(join(homes, `home-${process.pid}-1-left`));
    await service.end('SIGKILL');
    expect((await post(apart, 'conversation.delete', { session_id })).result).toEqual({ deleted: true, session_id });
    const before = other.output().split('repeated erasures in the sandbox service').length;
    const sweeps = (): number =>
      [apart, other].flatMap((gateway) => gateway.output().split('repeated erasures in the sandbox service')).length;
    const were = sweeps();
    expect(before).toBeGreaterThan(0);
    service = await startService();
    await expect.poll(sweeps, { timeout: 10_000 }).toBeGreaterThan(were);
    await expect.poll(() => readdirSync(homes).filter((name) => name.startsWith('home-'))).toEqual([]);
  });
});
