// Nothing that Codex writes into its home leads the gateway out of it when it reads or writes the files of threads
// there.
import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { ROLLOUT_BYTES_MAX } from '../../../shared/codex-host/codex-host.ts';
import { readRolloutFile, writeRolloutFile } from '../../../shared/codex-host/rollout-files.ts';

const PATH = 'sessions/2026/01/02/rollout-2026-01-02-abc.jsonl';
const BYTES = Buffer.from('{"a":1}\n');
let root: string;
let home: string;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'rollouts-'));
  home = join(root, 'home');
  await mkdir(home);
});
afterEach(() => rm(root, { recursive: true, force: true }));

it('a rollout file is read as it was written, and every user may append to it', async () => {
  await writeRolloutFile(home, PATH, BYTES);
  expect(await readRolloutFile(home, PATH)).toEqual(BYTES);
  expect((await stat(join(home, PATH))).mode & 0o777).toBe(0o666);
  expect((await stat(dirname(join(home, PATH)))).mode & 0o777).toBe(0o777);
  await writeRolloutFile(home, PATH.replace('abc', 'def'), BYTES);
});

it('a rollout file is never overwritten, and a missing one is not read', async () => {
  await writeRolloutFile(home, PATH, BYTES);
  await expect(writeRolloutFile(home, PATH, Buffer.from('x'))).rejects.toMatchObject({ reason: 'conflict' });
  expect(await readRolloutFile(home, PATH)).toEqual(BYTES);
  expect(await readRolloutFile(home, PATH.replace('abc', 'def'))).toBeUndefined();
});

it.each(['sessions', 'sessions/2026', 'sessions/2026/01/02'])('no symbolic link is followed at %s', async (name) => {
  const outside = join(root, 'outside');
  await writeRolloutFile(outside.replace('outside', 'home'), PATH, BYTES);
  await mkdir(join(root, 'moved'));
  execFileSync('mv', [join(home, name), outside]);
  await symlink(outside, join(home, name));
  expect(await readRolloutFile(home, PATH)).toBeUndefined();
  await expect(writeRolloutFile(home, PATH.replace('abc', 'def'), BYTES)).rejects.toThrow();
  expect(execFileSync('find', [outside, '-name', '*def*'], { encoding: 'utf8' })).toBe('');
});

it('no symbolic link is followed in the place of the rollout file', async () => {
  const secret = join(root, 'secret');
  await writeFile(secret, 'secret');
  await mkdir(dirname(join(home, PATH)), { recursive: true });
  await symlink(secret, join(home, PATH));
  expect(await readRolloutFile(home, PATH)).toBeUndefined();
  await expect(writeRolloutFile(home, PATH, BYTES)).rejects.toMatchObject({ reason: 'conflict' });
  expect(await readFile(secret, 'utf8')).toBe('secret');
});

it('a FIFO and a file that is too long are not read', async () => {
  await mkdir(dirname(join(home, PATH)), { recursive: true });
  execFileSync('mkfifo', [join(home, PATH)]);
  expect(await readRolloutFile(home, PATH)).toBeUndefined();
  execFileSync('truncate', ['-s', String(ROLLOUT_BYTES_MAX + 1), join(home, PATH.replace('abc', 'def'))]);
  expect(await readRolloutFile(home, PATH.replace('abc', 'def'))).toBeUndefined();
});

it.each(['../secret', '/etc/passwd', 'config.toml', 'sessions/2026/01/02/../x', `${PATH}/x`])(
  'no path but that of a rollout is accepted: %s',
  async (path) => {
    await expect(readRolloutFile(home, path)).rejects.toThrow();
    await expect(writeRolloutFile(home, path, BYTES)).rejects.toThrow();
  },
);
