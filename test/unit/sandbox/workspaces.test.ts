// Where the gateway is root, the directory of each key has a uid of its own, and keeps it.
import { chownSync, lstatSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createUids } from '../../../shared/sandbox/workspace/uids.ts';
import { createWorkspaces } from '../../../shared/sandbox/workspace/workspaces.ts';
import { describeWith } from '../../support/requirements.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'workspaces-'));
});
afterEach(() => rmSync(root, { recursive: true }));

const NAME = /^\w+$/;

describe('uids', () => {
  it('uids are unique where the hashes of two names are the same, and the same for one name', async () => {
    const uids = createUids(root, NAME);
    const given = await Promise.all([uids.of('a', 7), uids.of('b', 7), uids.of('c', 8), uids.of('a', 7)]);
    expect(given).toEqual([20_007, 20_008, 20_009, 20_007]);
  });

  it('uids are refused when all are taken', async () => {
    const uids = createUids(root, NAME, 2);
    await uids.of('a', 0);
    await uids.of('b', 0);
    await expect(uids.of('c', 0)).rejects.toMatchObject({ reason: 'unavailable' });
    expect(await uids.of('b', 0)).toBe(20_001);
  });
});

// Only root gives files to others.
describeWith('mounts', 'the workspace of a key', () => {
  it('the workspace of a key has the uid that its directory has, after a restart too', async () => {
    const first = await createWorkspaces(root, true).open('key');
    chownSync(first.home, 31_234, 31_234);
    const again = await createWorkspaces(root, true).open('key');
    expect(again).toEqual({ ...first, uid: 31_234 });
    expect(lstatSync(again.tmp).uid).toBe(31_234);
  });

  it('the workspace of a key gets a new uid when another key has its old one, and keeps its files', async () => {
    const workspaces = createWorkspaces(root, true);
    const [one, two] = await Promise.all([workspaces.open('one'), workspaces.open('two')]);
    // As a version that took the uid from a hash left them.
    for (const { home, tmp } of [one, two]) {
      mkdirSync(join(home, 'deep'));
      writeFileSync(join(home, 'deep/file'), 'kept');
      symlinkSync('/etc/passwd', join(home, 'link'));
      for (const path of [home, tmp, join(home, 'deep'), join(home, 'deep/file')]) chownSync(path, 20_001, 20_001);
    }
    const later = createWorkspaces(root, true);
    const uids = (await Promise.all([later.open('one'), later.open('two')])).map(({ uid }) => uid);
    expect(new Set(uids).size).toBe(2);
    expect(uids).toContain(20_001);
    for (const [index, { home, tmp }] of [one, two].entries()) {
      const paths = [home, tmp, join(home, 'deep'), join(home, 'deep/file')];
      expect(paths.map((path) => lstatSync(path).uid)).toEqual(paths.map(() => uids[index]));
    }
    expect(lstatSync('/etc/passwd').uid).toBe(0);
  });
});
