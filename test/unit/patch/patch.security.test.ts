// A hostile patch is refused or fails, and no byte changes outside or inside the repository.
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { applyPatch } from '../../../shared/patch/patch.ts';
import { createSandboxFixture, hashTree } from '../../support/fixtures/sandbox/sandbox.ts';
import { describeWith } from '../../support/requirements.ts';

const git = (from: string, to: string, ...rest: string[]): string =>
  [`diff --git ${from} ${to}`, ...rest, ''].join('\n');
const add = (path: string, mode = '100644'): string =>
  git(`a/${path}`, `b/${path}`, `new file mode ${mode}`, '--- /dev/null', `+++ b/${path}`, '@@ -0,0 +1 @@', '+evil');
const modify = (path: string): string =>
  git(`a/${path}`, `b/${path}`, `--- a/${path}`, `+++ b/${path}`, '@@ -1 +1 @@', '-old', '+evil');
const plain = (from: string, to: string): string =>
  [`--- ${from}`, `+++ ${to}`, '@@ -1 +1 @@', '-old', '+evil', ''].join('\n');

/** Patches that are refused because of their text. */
const REFUSED: readonly (readonly [string, string])[] = [
  ['climbs out by ..', add('../outside.txt')],
  ['climbs out from a directory', add('src/../../outside.txt')],
  [
    'climbs out by a quoted name',
    git('"a/../x"', '"b/../x"', 'new file mode 100644', '--- /dev/null', '+++ "b/../x"', '@@ -0,0 +1 @@', '+evil'),
  ],
  [
    'climbs out by octal escapes',
    git('"a/x"', '"b/x"', 'new file mode 100644', '--- /dev/null', '+++ "b/\\056\\056/x"', '@@ -0,0 +1 @@', '+evil'),
  ],
  ['names an absolute path', plain('/etc/passwd', '/etc/passwd')],
  ['names an absolute path below the prefix', plain('a//etc/passwd', 'b//etc/passwd')],
  [
    'names an absolute path in git form',
    git('/tmp/outside', '/tmp/outside', '--- /tmp/outside', '+++ /tmp/outside', '@@ -1 +1 @@', '-old', '+evil'),
  ],
  ['writes into .git', add('.git/hooks/post-checkout', '100755')],
  ['writes into .git by another case', add('.GIT/config')],
  ['writes into .git of a directory', add('sub/.git/config')],
  ['writes into .git as NTFS sees it', add('git~1/config')],
  ['writes into .git behind an invisible letter', add('.g\u200cit/config')],
  ['writes .git itself', add('.git')],
  ['makes a symlink', add('link', '120000')],
  ['turns a file into a symlink', git('a/file.txt', 'b/file.txt', 'old mode 100644', 'new mode 120000')],
  [
    'changes a symlink',
    git(
      'a/link',
      'b/link',
      'index 1234567..89abcde 120000',
      '--- a/link',
      '+++ b/link',
      '@@ -1 +1 @@',
      '-old',
      '+/etc',
    ),
  ],
  [
    'deletes a symlink',
    git('a/link', 'b/link', 'deleted file mode 120000', '--- a/link', '+++ /dev/null', '@@ -1 +0,0 @@', '-x'),
  ],
  ['adds a submodule', add('module', '160000')],
  ['adds a directory', add('directory', '040000')],
  ['sets the setuid bit', add('tool', '104755')],
  [
    'renames to outside',
    git('a/file.txt', 'b/../x', 'similarity index 100%', 'rename from file.txt', 'rename to ../x'),
  ],
  ['renames from outside', git('a/../x', 'b/y', 'similarity index 100%', 'rename from ../x', 'rename to y')],
  ['copies an absolute path', git('a/x', 'b/y', 'similarity index 100%', 'copy from /etc/passwd', 'copy to y')],
  ['copies out of .git', git('a/.git/config', 'b/y', 'similarity index 100%', 'copy from .git/config', 'copy to y')],
  ['holds NUL', modify('file.txt').replace('evil', 'ev\0il')],
  [
    'holds NUL in a quoted name',
    git('"a/x\\000y"', '"b/x\\000y"', '--- "a/x\\000y"', '+++ "b/x\\000y"', '@@ -1 +1 @@', '-old', '+evil'),
  ],
  [
    'is binary',
    git('a/x.png', 'b/x.png', 'index 1234567..89abcde 100644', 'GIT binary patch', 'literal 1', 'IcmZQz00I&Q', ''),
  ],
  ['announces more lines than it has', modify('file.txt').replace('@@ -1 +1 @@', '@@ -1,9 +1,9 @@')],
  ['announces fewer lines than a hunk needs', modify('file.txt').replace('@@ -1 +1 @@', '@@ -0,0 +1 @@')],
  ['announces lines beyond counting', modify('file.txt').replace('@@ -1 +1 @@', '@@ -1,99999999999 +1 @@')],
  ['has a hunk without a file', '@@ -1 +1 @@\n-old\n+evil\n'],
  [
    'names two files as one',
    git('a/file.txt', 'b/other.txt', '--- a/file.txt', '+++ b/other.txt', '@@ -1 +1 @@', '-old', '+evil'),
  ],
  ['touches 201 files', Array.from({ length: 201 }, (_, index) => add(`f${index}`)).join('')],
  ['has no changes', 'Just a letter.\n'],
  ['is shell', '$(touch /tmp/evil)\n`touch /tmp/evil`\n; touch /tmp/evil\n'],
];

/** Patches that do not apply. The repository contains `out -> ..`, `etc -> /etc`, `file-link -> ../outside.txt`. */
const FAILS: readonly (readonly [string, string])[] = [
  ['adds through a symlinked directory', add('out/new.txt')],
  ['changes through a symlinked directory', modify('out/outside.txt')],
  ['adds to the system through a symlink', add('etc/cron.d-evil')],
  ['changes through a symlinked file', modify('file-link')],
  ['replaces what is there', add('file.txt')],
  ['puts a file below a file', add('file.txt/below')],
  ['changes what is not there', modify('missing.txt')],
  ['removes a file and goes on through a link in its place', `${modify('file.txt')}${add('out/sub/x')}`],
  ['is good in its first file, bad in its second', `${modify('file.txt')}${modify('missing.txt')}`],
  [
    'is binary without its data',
    git('a/x.png', 'b/x.png', 'index 1234567..89abcde 100644', 'Binary files a/x.png and b/x.png differ'),
  ],
  ['is good until the write', `${modify('file.txt')}${add('fresh/new.txt')}${modify('locked/file.txt')}`],
];

describeWith('bubblewrap', 'a hostile patch', async () => {
  const fixture = await createSandboxFixture();
  await fixture.sh(`
    git init -q /tmp/repo; cd /tmp/repo; echo old > file.txt; echo old > ../outside.txt; echo old > other.txt
    ln -s .. out; ln -s /etc etc; ln -s ../outside.txt file-link
    mkdir locked; echo old > locked/file.txt; chmod 555 locked`);
  // Other users than root could not remove it.
  afterAll(() => fixture.sh('chmod 755 /tmp/repo/locked'));
  const workspaces = join(fixture.directory, 'workspaces');
  const before = await hashTree(workspaces);
  const run = (patch: string) => {
    const { signal } = new AbortController();
    return applyPatch(fixture.sandbox, { keyId: 'a', patch, directory: '/tmp/repo', dryRun: false, signal });
  };

  it.each(REFUSED)('a patch that %s is refused before a file is touched', async (_, patch) => {
    await expect(run(patch)).rejects.toMatchObject({ reason: 'invalid_params', data: { issues: [{ path: 'patch' }] } });
  });

  it.each(FAILS)('a patch that %s fails as a whole', async (_, patch) => {
    await expect(run(patch)).rejects.toMatchObject({
      reason: expect.stringMatching(/^(patch_failed|invalid_params)$/),
    });
    expect(await hashTree(workspaces)).toBe(before);
  });

  it('a hostile patch has changed nothing', async () => {
    expect(REFUSED.length + FAILS.length).toBeGreaterThanOrEqual(30);
    expect(await hashTree(workspaces)).toBe(before);
  });
});
