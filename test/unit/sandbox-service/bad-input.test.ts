// The sandbox service refuses handles that are not the client's own, credentials that are not valid, and more than it
// accepts, and serves others meanwhile.
import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { createLogger } from '../../../shared/log.ts';
import { connectLink, type GatewayLink } from '../../../shared/sandbox-link/link/connect/connect-link.ts';
import { LINK_PATH } from '../../../shared/sandbox-link/link/link.ts';
import { openRaw, TOKEN } from '../../support/fixtures/sandbox/sandbox-link.ts';
import { freePort, type SandboxService, startSandboxService } from '../../support/fixtures/sandbox/sandbox-service.ts';
import { describeWith } from '../../support/requirements.ts';

const log = createLogger({ format: 'json', write: () => {} });
const CALLS = 10_000;

describeWith('bubblewrap', 'the sandbox service', () => {
  const dataDir = mkdtempSync(join(tmpdir(), 'sandbox-input-'));
  const links: GatewayLink[] = [];
  let port: number;
  let service: SandboxService;
  const start = async (): Promise<void> => {
    const env = { SANDBOX_TOKEN: TOKEN.slice('Bearer '.length) };
    service = await startSandboxService({ port, dataDir, env });
  };
  const connect = async (): Promise<GatewayLink> => {
    const headers = async () => ({ Authorization: TOKEN });
    const link = await connectLink({ url: service.url, headers, handlers: {}, log });
    links.push(link);
    return link;
  };
  beforeAll(async () => {
    port = await freePort();
    await start();
  });
  afterAll(async () => {
    await Promise.all(links.map((link) => link.close()));
    await service.end();
    rmSync(dataDir, { recursive: true });
  });

  /** What a start sends beside its own params: its specification, on a stream. */
  function specOf(link: GatewayLink, spec: object): object {
    const stream = link.openStream();
    stream.end(JSON.stringify(spec));
    stream.resume();
    return { start_id: randomUUID(), spec: stream.id };
  }
  async function startServer(link: GatewayLink): Promise<unknown> {
    const spec = specOf(link, { command: 'sleep', args: ['600'], env: {} });
    const streams = { io: link.openStream().id, errors: link.openStream().id };
    return link.request('server.start', { owner: 'a', ...spec, ...streams });
  }
  const startTerminal = (link: GatewayLink, session: string): Promise<unknown> =>
    link.request('terminal.start', { owner: 'a', session, ...specOf(link, { env: {}, request_id: 'req_1' }) });

  it.each([
    ['no token', {}],
    ['a wrong token', { Authorization: 'Bearer another-token-of-at-least-32-characters' }],
    ['a token of another scheme', { Authorization: TOKEN.replace('Bearer', 'Basic') }],
    ['an ID token where a secret is configured', { Authorization: 'Bearer aa.bb.cc' }],
  ])('the sandbox service answers 401 to %s', async (_name, headers: Record<string, string>) => {
    const socket = new WebSocket(service.url.replace('http', 'ws') + LINK_PATH, { headers });
    const status = await new Promise((resolve) => {
      socket.on('unexpected-response', (_request, response) => resolve(response.statusCode));
      socket.on('open', () => resolve(101));
    });
    socket.on('error', () => {}).terminate();
    expect(status).toBe(401);
  });

  it('the sandbox service has no process of another link, and no terminal of another owner', async () => {
    const [own, other] = [await connect(), await connect()];
    const handle = await startServer(own);
    await expect(other.request('server.wait', handle)).rejects.toMatchObject({ reason: 'not_found' });
    await other.request('server.kill', { ...(handle as object), grace_ms: 0 });
    await startTerminal(own, 'mine');
    const foreign = { owner: 'b', session: 'mine' };
    for (const [method, params] of [
      ['terminal.input', { data: 'exit\r' }],
      ['terminal.resize', { cols: 1, rows: 1 }],
      ['terminal.close', {}],
      ['terminal.watch', { after_seq: 0, output: other.openStream().id }],
    ] as const) {
      const call = other.request(method, { ...foreign, ...params });
      await expect(call).rejects.toMatchObject({ reason: 'not_found' });
    }
    const isRunning = own.request('server.wait', handle).then(() => 'ended');
    expect(await own.request('terminal.resize', { owner: 'a', session: 'mine', cols: 90, rows: 30 })).toMatchObject({
      cols: 90,
    });
    expect(await Promise.race([isRunning, 'running'])).toBe('running');
    await own.request('server.kill', { ...(handle as object), grace_ms: 0 });
    expect(await isRunning).toBe('ended');
  });

  it('the sandbox service has nothing of an earlier boot', async () => {
    const before = await connect();
    const handle = await startServer(before);
    await startTerminal(before, 'earlier');
    await service.end('SIGKILL');
    await start();
    const after = await connect();
    expect(after.sandbox.bootId).not.toBe(before.sandbox.bootId);
    await expect(after.request('server.wait', handle)).rejects.toMatchObject({ reason: 'not_found' });
    const call = after.request('terminal.input', { owner: 'a', session: 'earlier', data: 'x' });
    await expect(call).rejects.toMatchObject({ reason: 'not_found' });
  });

  it(`the sandbox service answers ${CALLS} calls at once on one link, and serves another one meanwhile`, async () => {
    const [raw, other] = [await openRaw(service.url), await connect()];
    await raw.next();
    const methods = ['sandbox.available', 'command.run', 'terminal.close', 'no.method'];
    for (let id = 1; id <= CALLS; id++) raw.control({ id, method: methods[id % methods.length], params: {} });
    expect(await other.request('sandbox.available', {})).toMatchObject({ ok: true });
    const answered = new Set<unknown>();
    while (answered.size < CALLS) answered.add((await raw.next())?.id);
    raw.socket.terminate();
  });
});
