// The real gateway loses nothing on a disk without a byte left: a tmpfs in a mount namespace of its own, filled from
// outside. First the disk of the workspaces is full, while the store is on another; then that of the store.
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { type LocalGateway, localMain, startLocalGateway } from '../../support/fixtures/gateway/local-gateway.ts';
import { describeWith } from '../../support/requirements.ts';

const KEYS = ['one', 'two'].map((id) => ({ id, key: `key-of-${id}`, scopes: ['workspace', 'conversation'] }));
const PATCH = '--- a/file.txt\n+++ b/file.txt\n@@ -1 +1 @@\n-old\n+new\n';

interface Answer {
  readonly status: number;
  readonly result?: Record<string, unknown>;
  readonly error?: { readonly code: number; readonly message: string; readonly data: Record<string, unknown> };
}

/** A gateway whose data directory has a small disk mounted on it, or on a directory below it. */
async function startOnSmallDisk(below: string, megabytes = 8) {
  const data = mkdtempSync(join(tmpdir(), 'full-disk-'));
  const disk = join(data, below);
  mkdirSync(disk, { recursive: true });
  const script = `mount -t tmpfs -o size=${megabytes}m,nr_inodes=600 tmpfs "$0" && exec "$@"`;
  const gateway: LocalGateway = await startLocalGateway({
    command: ['unshare', '--mount', '/bin/sh', '-c', script, disk, process.execPath, localMain()],
    env: { GATEWAY_DATA_DIR: data, GATEWAY_KEYS: JSON.stringify({ keys: KEYS }), GATEWAY_LIMITS: '100000/minute' },
  });
  // The free space that the gateway reads.
  const inside = `/proc/${gateway.child.pid}/root${disk}`;
  const call = async (method: string, params: object, key = 'one'): Promise<Answer> => {
    const response = await fetch(`${gateway.url}/jsonrpc`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'x-api-key': `key-of-${key}` },
      body: JSON.stringify({ jsonrpc: '2.0', method, params, id: 1 }),
    });
    return { ...((await response.json()) as object), status: response.status };
  };
  return {
    call,
    sh: (script: string, key?: string) => call('exec', { command: 'sh', args: ['-c', script] }, key),
    health: async () => (await fetch(`${gateway.url}/health`)).status,
    fillBytes: () => fillBytes(join(inside, 'filler')),
    /** Lengthens a file of a home, as a command would, but at the speed of this process. */
    growWorkspace(name: string, bytes: number) {
      const workspaces = join(inside, 'workspaces');
      const homes = readdirSync(workspaces).map((directory) => join(workspaces, directory, 'home', name));
      for (const file of homes.filter((path) => existsSync(path))) writeFileSync(file, Buffer.alloc(bytes));
    },
    fillEntries() {
      for (let number = 0; tryTo(() => closeSync(openSync(join(inside, `empty-${number}`), 'wx'))); number++);
    },
    free() {
      for (const name of readdirSync(inside)) if (/^(filler|empty-)/.test(name)) rmSync(join(inside, name));
    },
    async [Symbol.asyncDispose]() {
      await gateway.stop();
      rmSync(data, { recursive: true, force: true });
    },
  };
}

/** To the last byte. */
function fillBytes(path: string): void {
  const file = openSync(path, 'a');
  for (let size = 1 << 20; size >= 1; size >>= 1) while (tryTo(() => writeSync(file, Buffer.alloc(size))));
  closeSync(file);
}

function tryTo(work: () => void): boolean {
  try {
    work();
    return true;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOSPC') return false;
    throw error;
  }
}

describeWith('mounts', 'a full disk', () => {
  it('a full disk of the workspaces is reported, changes no file, does not affect other calls, and ends once space is free', async () => {
    await using on = await startOnSmallDisk('workspaces');
    expect(await on.sh('mkdir /tmp/repo; echo old > /tmp/repo/file.txt')).toMatchObject({ result: { exit_code: 0 } });
    on.fillBytes();
    on.fillEntries();
    expect(await on.sh('cat /etc/passwd > ~/copy')).toMatchObject({
      result: { exit_code: expect.toSatisfy((code) => code !== 0), stderr: expect.stringContaining('No space left') },
    });
    const apply = () => on.call('apply', { patch: PATCH, repo_path: '/tmp/repo' });
    expect(await apply()).toMatchObject({
      status: 200,
      error: {
        code: 409,
        message: expect.stringContaining('disk of the workspace is full'),
        data: { reason: 'patch_failed', disk_full: true, retryable: true },
      },
    });
    expect(await on.sh('cat /tmp/repo/file.txt; ls -A /tmp/repo')).toMatchObject({
      result: { stdout: 'old\nfile.txt\n' },
    });
    // A key that has no workspace yet.
    expect(await on.sh('true', 'two')).toMatchObject({
      status: 503,
      error: {
        message: expect.stringContaining('disk of the workspaces is full'),
        data: { reason: 'unavailable', retryable: true, disk_full: true },
      },
    });
    expect(await on.call('conversation.prompt', { prompt: 'hello', session_id: 's' })).toMatchObject({ status: 200 });
    expect(await on.call('conversation.status', { session_id: 's' })).toMatchObject({ result: { status: 'idle' } });
    expect(await on.health()).toBe(200);
    on.free();
    expect(await apply()).toMatchObject({ result: { applied: true } });
    expect(await on.sh('echo x > ~/file; cat ~/file', 'two')).toMatchObject({ result: { stdout: 'x\n' } });
  });

  it('a full disk is not what one key can make of the disk that the store is on, too', async () => {
    await using on = await startOnSmallDisk('', 200);
    expect(await on.sh('echo x > ~/mine')).toMatchObject({ result: { exit_code: 0 } });
    on.growWorkspace('mine', 184 << 20);
    const fillDisk = 'i=1; while :; do head -c 512K /dev/zero > ~/$i; i=$((i + 1)); sleep 0.02; done';
    expect(await on.sh(fillDisk)).toMatchObject({
      result: { exit_code: 137, stderr: expect.stringContaining('sandbox: killed, the workspace is full') },
    });
    expect(await on.sh('echo x > ~/more && cat ~/more')).toMatchObject({
      result: {
        exit_code: expect.toSatisfy((code) => code !== 0),
        stderr: expect.stringContaining('delete something'),
      },
    });
    expect(await on.call('conversation.prompt', { prompt: 'hello', session_id: 's' }, 'two')).toMatchObject({
      status: 200,
    });
    expect(await on.sh('echo x > ~/file && cat ~/file', 'two')).toMatchObject({ result: { stdout: 'x\n' } });
    expect(await on.sh('rm ~/*')).toMatchObject({ result: { exit_code: 0, stderr: '' } });
    expect(await on.sh('echo x > ~/more && cat ~/more')).toMatchObject({ result: { stdout: 'x\n' } });
  });

  it('a full disk of the store: answers 503, to be tried again, until there is room, and has lost nothing', async () => {
    await using on = await startOnSmallDisk('');
    const prompt = (text: string) => on.call('conversation.prompt', { prompt: text, session_id: 's' });
    expect(await prompt('first')).toMatchObject({ status: 200 });
    on.fillBytes();
    expect(await prompt('second')).toMatchObject({
      status: 503,
      error: { code: 503, data: { reason: 'unavailable', retryable: true } },
    });
    expect(await on.health()).toBe(200);
    on.free();
    // The limiter tries its store again after a while.
    let answer = await prompt('third');
    for (const deadlineMs = performance.now() + 15_000; answer.status !== 200 && performance.now() < deadlineMs; ) {
      answer = await prompt('third');
    }
    expect(answer).toMatchObject({ status: 200 });
    const { result } = await on.call('conversation.history', { session_id: 's' });
    expect(JSON.stringify(result)).toMatch(/first.*third/);
  });
});
