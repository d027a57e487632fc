// Where the disk of the workspaces is memory, all of them together stay within a share of it, so that files never take
// the memory of the container.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { createBubblewrapSandbox } from '../../../../shared/sandbox/bubblewrap.ts';
import { DISK_LIMITS } from '../../../../shared/sandbox/limits.ts';
import { freeSpace } from '../../../../shared/sandbox/quota/free-space.ts';
import { diskLimitsOf, memoryBytes, toMemoryLimits } from '../../../../shared/sandbox/quota/memory-disk.ts';
import { createSandboxFixture, type SandboxFixture } from '../../../support/fixtures/sandbox/sandbox.ts';
import { describeWith } from '../../../support/requirements.ts';

const MB = 1 << 20;

function bytesIn({ directory }: SandboxFixture): number {
  return Number.parseInt(execFileSync('du', ['-sB1', join(directory, 'workspaces')], { encoding: 'utf8' }), 10);
}

describe('the limits of a disk that is memory', () => {
  it('the limits of a disk that is memory are a quarter of the memory for all workspaces, and half of that for one', () => {
    expect(toMemoryLimits(2048 * MB)).toMatchObject({ totalBytes: 512 * MB, workspaceBytes: 256 * MB });
    expect(toMemoryLimits(64 * 1024 * MB).workspaceBytes).toBe(DISK_LIMITS.workspaceBytes);
    expect(diskLimitsOf('/proc', true)).toEqual(toMemoryLimits(memoryBytes()));
  });

  it.runIf(process.platform === 'linux')(
    'the limits of a disk that is memory are those of a tmpfs, also of a directory that is not there yet',
    () => {
      expect(diskLimitsOf('/dev/shm/not/there', false)).toEqual(toMemoryLimits(memoryBytes()));
      expect(diskLimitsOf('/proc/not/there', false)).toEqual(DISK_LIMITS);
    },
  );

  it('each workspace may have less as all of them together come near their limit', async () => {
    const limits = toMemoryLimits(400 * MB);
    const shareAt = async (usedMb: number) => (await freeSpace(tmpdir(), limits, usedMb * MB)).share;
    expect(await Promise.all([0, 94, 96, 99, 100, 150].map(shareAt))).toEqual([1, 1, 1 / 10, 1 / 100, 0, 0]);
  });
});

describeWith('bubblewrap', 'workspaces on a disk that is memory', () => {
  const limits = { ...toMemoryLimits(160 * MB), checkMs: 10 };
  /** Writes until it is stopped, at a pace at which four of them pass the limit by little before a check. */
  const FILL = 'for i in $(seq 100); do head -c 1M /dev/zero > ~/$i || exit 1; sleep 0.1; done';
  const write = (fixture: SandboxFixture, keyId: string, mb: number) =>
    fixture.sh(`head -c ${mb}M /dev/zero > $(mktemp -p ~)`, { keyId });

  it('a full workspace is the error of its owner, and other owners continue', async () => {
    const fixture = await createSandboxFixture(limits);
    expect((await write(fixture, 'a', 15)).exitCode).toBe(0);
    await write(fixture, 'a', 15);
    const full = await write(fixture, 'a', 5);
    expect(full).toMatchObject({ isFull: true });
    expect(full.stderr.toString()).toContain('sandbox: the workspace is full');
    expect((await write(fixture, 'b', 4)).exitCode).toBe(0);
  });

  it('all workspaces on a disk that is memory stay within their share together, also while commands run', async () => {
    const fixture = await createSandboxFixture(limits);
    const owners = ['a', 'b', 'c', 'd'];
    const results = await Promise.all(owners.map((keyId) => fixture.sh(FILL, { keyId })));
    expect(results.map(({ exitCode, isFull }) => exitCode !== 0 && isFull)).toEqual(owners.map(() => true));
    expect(bytesIn(fixture)).toBeLessThan(limits.totalBytes + 8 * MB);
    const more = await write(fixture, 'a', 3);
    expect(more).toMatchObject({ isFull: true });
    expect((await fixture.sh('rm ~/*', { keyId: 'a' })).exitCode).toBe(0);
    expect((await write(fixture, 'a', 3)).exitCode).toBe(0);
  });

  it('the files of an earlier gateway process count', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'left-'));
    const path = process.env.PATH ?? '';
    const run = async (keyId: string, script: string) => {
      const sandbox = createBubblewrapSandbox({ directory, path, disk: { ...limits, workspaceBytes: 64 * MB } });
      const options = { signal: new AbortController().signal, timeoutMs: 30_000, outputBytesMax: MB };
      const result = await sandbox.run({ keyId, argv: ['/bin/sh', '-c', script] }, options);
      await sandbox.close();
      return result;
    };
    expect((await run('a', 'head -c 36M /dev/zero > ~/x')).exitCode).toBe(0);
    expect(await run('b', FILL)).toMatchObject({ isFull: true });
    rmSync(directory, { recursive: true });
  });
});
