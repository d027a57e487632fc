// The real gateway does not start where its data directory cannot be made or is a mount whose server is gone, and
// answers 503 when the directory is removed while it runs.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { describe, expect, it } from 'vitest';
import { ROOT, startLocalGateway } from '../../support/fixtures/gateway/local-gateway.ts';
import { describeWith } from '../../support/requirements.ts';

const MAIN = join(ROOT, 'functions/local/main.ts');
/** A FUSE file system whose server is gone: every call on it fails with ENOTCONN. */
const STALE = `exec 3<>/dev/fuse && mount -i -t fuse -o fd=3,rootmode=40000,user_id=0,group_id=0 stale "$0" && exec 3>&- && exec "$@"`;

/** Ends by itself, or the suite's deadline fails. */
async function fail(dataDir: string, ...before: string[]): Promise<{ code: number | null; stderr: string }> {
  const [file = process.execPath, ...args] = [...before, process.execPath, MAIN];
  const env = {
    PATH: process.env.PATH,
    NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE,
    PORT: '0',
    GATEWAY_DATA_DIR: dataDir,
  };
  const child = spawn(file, args, { cwd: ROOT, env, stdio: ['ignore', 'ignore', 'pipe'] });
  const [[code], stderr] = await Promise.all([once(child, 'exit'), text(child.stderr)]);
  return { code, stderr };
}

describe('a data directory', () => {
  it.runIf(process.platform === 'linux')(
    'a data directory that cannot be made ends the start with one line',
    async () => {
      const { code, stderr } = await fail('/proc/x');
      expect(code).toBe(1);
      expect(stderr).toMatch(/^.*\/proc\/x.*ENOENT.*GATEWAY_DATA_DIR.*\n$/);
    },
  );

  it('a data directory that vanishes is seen by verbose health, and every call that needs it is answered 503', async () => {
    const data = mkdtempSync(join(tmpdir(), 'vanishing-'));
    const gateway = await startLocalGateway({ env: { GATEWAY_DATA_DIR: data } });
    const headers = { 'content-type': 'application/json', 'x-api-key': 'dev-key' };
    const call = async (method: string, params: object) => {
      const body = JSON.stringify({ jsonrpc: '2.0', method, params, id: 1 });
      const response = await fetch(`${gateway.url}/jsonrpc`, { method: 'POST', headers, body });
      return { status: response.status, body: await response.json() };
    };
    const health = async () => {
      const response = await fetch(`${gateway.url}/health?verbose=1`, { headers });
      return { status: response.status, body: await response.json() };
    };
    try {
      expect(await call('conversation.prompt', { prompt: 'hello' })).toMatchObject({ status: 200 });
      expect(await health()).toMatchObject({ status: 200 });
      // The gateway may write a file while the directory is emptied.
      rmSync(data, { recursive: true, maxRetries: 10, retryDelay: 20 });
      expect(await health()).toMatchObject({
        status: 503,
        body: { status: 'degraded', checks: { store: { status: 'failed' }, keys: { status: 'ok' } } },
      });
      expect(await call('conversation.prompt', { prompt: 'hello' })).toMatchObject({
        status: 503,
        body: { error: { code: 503, data: { reason: 'unavailable', retryable: true } } },
      });
      // A new directory at the old place is not what the gateway has open.
      mkdirSync(data, { recursive: true });
      expect(await health()).toMatchObject({ status: 503 });
      expect(await fetch(`${gateway.url}/health`)).toMatchObject({ status: 200 });
    } finally {
      expect(await gateway.stop()).toBe(0);
      rmSync(data, { recursive: true, force: true });
    }
  });
});

describeWith('mounts', 'a stale mount', () => {
  it('a stale mount as the data directory ends the start with one line', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'stale-'));
    const { code, stderr } = await fail(
      join(directory, 'below'),
      'unshare',
      '--mount',
      '/bin/sh',
      '-c',
      STALE,
      directory,
    );
    rmSync(directory, { recursive: true });
    expect(code).toBe(1);
    expect(stderr).toMatch(/^.*ENOTCONN.*GATEWAY_DATA_DIR.*\n$/);
  });
});
