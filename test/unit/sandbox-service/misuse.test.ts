// The sandbox service refuses callers without the credential, parameters beyond their bounds, repeated starts, and
// handles of others.
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { request } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { createSandboxServer, type SandboxServer } from '../../../functions/sandbox/server.ts';
import { loadSandboxConfig } from '../../../shared/config/sandbox-service.ts';
import { createLogger } from '../../../shared/log.ts';
import { connectLink, type GatewayLink } from '../../../shared/sandbox-link/link/connect/connect-link.ts';
import { LINK_PATH } from '../../../shared/sandbox-link/link/link.ts';
import { SPEC_BYTES_MAX } from '../../../shared/sandbox-link/messages.ts';
import { processesWith } from '../../support/fixtures/sandbox/sandbox.ts';
import { freshMark, TOKEN } from '../../support/fixtures/sandbox/sandbox-ports.ts';
import { describeWith } from '../../support/requirements.ts';

const log = createLogger({ format: 'json', write: () => {} });

describeWith('bubblewrap', 'a sandbox service', () => {
  const dataDir = mkdtempSync(join(tmpdir(), 'sandbox-misuse-'));
  let server: SandboxServer;
  let url: string;
  let link: GatewayLink;
  let other: GatewayLink;
  const connect = (): Promise<GatewayLink> =>
    connectLink({ url, headers: async () => ({ Authorization: `Bearer ${TOKEN}` }), handlers: {}, log });
  beforeAll(async () => {
    server = createSandboxServer(
      loadSandboxConfig({ SANDBOX_TOKEN: TOKEN, GATEWAY_DATA_DIR: dataDir, PATH: process.env.PATH }),
      log,
    );
    server.http.listen(0, '127.0.0.1');
    await once(server.http, 'listening');
    url = `http://127.0.0.1:${(server.http.address() as AddressInfo).port}`;
    [link, other] = await Promise.all([connect(), connect()]);
  });
  afterAll(async () => {
    await Promise.all([link.close(), other.close()]);
    await server.stop(0);
    rmSync(dataDir, { recursive: true });
  });

  /** Sends a start with its specification; the streams are read and reset. */
  async function start(on: GatewayLink, method: string, spec: unknown, more: object = {}): Promise<unknown> {
    const streams = [on.openStream(), on.openStream(), on.openStream()] as const;
    const [specStream, io, errors] = streams;
    for (const stream of streams) stream.resume();
    specStream.end(typeof spec === 'string' ? spec : JSON.stringify(spec));
    errors.end();
    if (method === 'command.run') io.end();
    const ids = { spec: specStream.id, io: io.id, errors: errors.id };
    return on.request(method, { owner: 'a', start_id: randomUUID(), ...ids, ...more });
  }
  const bounds = { has_stdin: false, timeout_ms: 20_000, output_bytes_max: 1_000 };
  const run = (spec: unknown, more: object = {}): Promise<unknown> =>
    start(link, 'command.run', spec, { ...bounds, ...more });

  it.each<readonly [string, Record<string, string>]>([
    ['no credential', {}],
    ['a wrong token', { Authorization: `Bearer ${'x'.repeat(TOKEN.length)}` }],
    ['the key of a caller', { 'X-API-Key': 'dev-key' }],
  ])('the service answers 401 to %s, before anything of the WebSocket is read', async (_, headers) => {
    const upgrade = { Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': '13' };
    const sent = request(url + LINK_PATH, {
      headers: { ...upgrade, 'Sec-WebSocket-Key': `${'A'.repeat(22)}==`, ...headers },
    });
    sent.end();
    const [response] = await once(sent, 'response');
    expect(response.resume().statusCode).toBe(401);
  });

  it('the sandbox service serves only /health and links', async () => {
    expect(await (await fetch(`${url}/health`)).json()).toEqual({ status: 'healthy' });
    expect((await fetch(`${url}/health`, { method: 'POST' })).status).toBe(405);
    for (const path of ['/', '/jsonrpc', '/ws', LINK_PATH]) {
      const response = await fetch(url + path);
      expect([response.status, response.headers.get('content-type')]).toEqual([404, expect.stringContaining('json')]);
    }
  });

  it.each<readonly [string, unknown, object]>([
    ['no program', { argv: [] }, {}],
    ['a NUL', { argv: ['a\0b'] }, {}],
    ['a specification that is no object', '"argv"', {}],
    ['no JSON', '{', {}],
    ['more rights', { argv: ['true'], network: true }, {}],
    ['a variable that changes what runs', { argv: ['true'], env: { LD_PRELOAD: '/x' } }, {}],
    ['an owner that is empty', { argv: ['true'] }, { owner: '' }],
    ['a time limit beyond the bound', { argv: ['true'] }, { timeout_ms: 1e9 }],
    ['a parameter that it does not have', { argv: ['true'] }, { uid: 0 }],
    ['a stream that is not open', { argv: ['true'] }, { io: 123_456_789 }],
  ])('the service refuses a command with %s', async (_, spec, more) => {
    await expect(run(spec, more)).rejects.toMatchObject({ reason: 'invalid_params' });
  });

  it('the service refuses a specification beyond the bound, and continues', async () => {
    const spec = { argv: ['true', 'x'.repeat(SPEC_BYTES_MAX)] };
    await expect(run(spec)).rejects.toMatchObject({ reason: 'payload_too_large' });
    expect(await run({ argv: ['true'] })).toMatchObject({ exit_code: 0 });
  });

  it('a sandbox service carries out a start once, on whichever link it is repeated', async () => {
    const again = { start_id: randomUUID() };
    expect(await run({ argv: ['sh', '-c', 'echo x >> ~/starts'] }, again)).toMatchObject({ exit_code: 0 });
    const spec = { argv: ['sh', '-c', 'echo x >> ~/starts'] };
    await expect(run(spec, again)).rejects.toMatchObject({ reason: 'conflict' });
    await expect(start(other, 'command.run', spec, { ...bounds, ...again })).rejects.toMatchObject({
      reason: 'conflict',
    });
    expect(await run({ argv: ['sh', '-c', '[ "$(cat ~/starts)" = x ]'] })).toMatchObject({ exit_code: 0 });
  });

  it('a sandbox service ends the processes of a link that is over, and takes its handles from no other link', async () => {
    const own = await connect();
    const mark = freshMark();
    const spec = { command: 'sleep', args: [mark], env: {} };
    const { handle } = (await start(own, 'server.start', spec)) as { handle: string };
    await expect(link.request('server.wait', { handle })).rejects.toMatchObject({ reason: 'not_found' });
    await link.request('server.kill', { handle, grace_ms: 0 });
    expect(await processesWith(mark)).not.toEqual([]);
    await own.close();
    await expect.poll(() => processesWith(mark)).toEqual([]);
  });

  it('the service answers not_found for terminals and Codex processes that are not there', async () => {
    const terminal = { owner: 'a', session: 'none' };
    for (const [method, params] of [
      ['terminal.input', { ...terminal, data: 'x' }],
      ['terminal.resize', { ...terminal, cols: 1, rows: 1 }],
      ['terminal.close', terminal],
    ] as const) {
      await expect(link.request(method, params)).rejects.toMatchObject({ reason: 'not_found' });
    }
    const stream = link.openStream();
    const path = 'sessions/2026/01/01/rollout-a.jsonl';
    const rollout = { process_id: randomUUID(), path, bytes: stream.id };
    await expect(link.request('codex.read_rollout', rollout)).rejects.toMatchObject({ reason: 'not_found' });
    await expect(link.request('codex.read_rollout', { ...rollout, path: '../../etc/passwd' })).rejects.toMatchObject({
      reason: 'invalid_params',
    });
    stream.destroy();
    await expect(link.request('store.get', {})).rejects.toMatchObject({ reason: 'method_not_found' });
  });
});
