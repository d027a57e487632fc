// `apply` applies the patches that users write, as a whole or not at all, and its errors name the file and the hunk.
import { expect, it } from 'vitest';
import { applyPatch } from '../../../shared/patch/patch.ts';
import { readPatch } from '../../../shared/patch/patch-text.ts';
import { createSandboxFixture } from '../../support/fixtures/sandbox/sandbox.ts';
import { describeWith } from '../../support/requirements.ts';

/** As printed in the reference: no newline at the end, an index line that is not hexadecimal. */
const REFERENCE =
  'diff --git a/file.txt b/file.txt\nindex 1234567..abcdefg 100644\n--- a/file.txt\n+++ b/file.txt\n@@ -1 +1 @@\n-old content\n+new content';

it('the sections of a patch are found, and how many lines each changes', () => {
  const patch = [
    'From 1234567 Mon Sep 17 00:00:00 2001',
    'Subject: [PATCH] several things',
    '---',
    ' a.txt | 2 +-',
    '',
    'diff --git "a/\\303\\244 b.txt" "b/\\303\\244 b.txt"',
    ...['old mode 100644', 'new mode 100755'],
    'diff --git a/old.txt b/sub/new.txt',
    ...['similarity index 90%', 'rename from old.txt', 'rename to sub/new.txt', 'index 1234567..89abcde 100644'],
    ...['--- a/old.txt', '+++ b/sub/new.txt', '@@ -1,2 +1,3 @@ heading', ' one', '-two', '+2', '+3'],
    'diff --git empty empty',
    ...['new file mode 100644', 'index 0000000..e69de29'],
    'diff --git a/gone b/gone',
    ...['deleted file mode 100644', '--- a/gone', '+++ /dev/null', '@@ -1 +0,0 @@', '-x'],
    '\\ No newline at end of file',
    'diff --git a/bin b/bin',
    ...['index 1234567..89abcde', 'GIT binary patch', 'literal 1', 'IcmZQz00I&Q', '', 'literal 0', 'HcmV?d00001', ''],
    'diff -ru x/plain.txt y/plain.txt',
    ...['--- x/plain.txt\t2026-01-01 00:00:00', '+++ y/plain.txt\t2026-01-02 00:00:00'],
    ...['@@ -1 +1 @@', '--- a/not-a-header', '+++ b/not-a-header', '@@ -9,0 +10 @@', '+end'],
    ...['-- ', '2.39.5', ''],
  ].join('\n');
  const none = { additions: 0, deletions: 0, hunks: [], isBinary: false, move: undefined };
  expect(readPatch(patch)).toEqual([
    { ...none, needsOld: true, names: 'prefixed' },
    { ...none, additions: 2, deletions: 1, hunks: [1], move: 'renamed', needsOld: true, names: 'prefixed' },
    { ...none, needsOld: false, names: 'whole' },
    { ...none, deletions: 1, hunks: [1], needsOld: true, names: 'prefixed' },
    { ...none, isBinary: true, needsOld: true, names: 'prefixed' },
    { ...none, additions: 2, deletions: 1, hunks: [1, 9], needsOld: true, names: 'prefixed' },
  ]);
});

const ONE = ['--- a/f', '+++ b/f', '@@ -1 +1 @@', '-b', '+c'];

it.each([
  ['an added line', ['+d']],
  ['a deleted line', ['-d']],
  ['a line of context', [' d']],
  ['a line after an empty one', ['', '+d']],
])('a hunk of more lines than it announces, which git would leave out, is refused: %s', (_, more) => {
  expect(() => readPatch([...ONE, ...more].join('\n'))).toThrow(
    expect.objectContaining({
      data: {
        issues: [{ path: 'patch', message: expect.stringContaining('hunk 1 has more lines than it announces') }],
      },
    }),
  );
});

it.each([
  ['another hunk', ['@@ -9 +9 @@', '-x', '+y']],
  ['another file', ['--- a/g', '+++ b/g', '@@ -1 +1 @@', '-x', '+y']],
  ["a mail's signature", ['-- ', '2.39.5', '']],
  ['empty lines', ['', '', '']],
])('a hunk may be followed by %s', (_, more) => {
  expect(readPatch([...ONE, ...more].join('\n'))[0]).toMatchObject({
    names: 'prefixed',
    additions: expect.any(Number),
  });
});

describeWith('bubblewrap', 'apply', async () => {
  const fixture = await createSandboxFixture();
  const { signal } = new AbortController();
  const run = (patch: string, { directory = '/tmp/repo', dryRun = false, keyId = 'a' } = {}) =>
    applyPatch(fixture.sandbox, { keyId, patch, directory, dryRun, signal });

  it('apply applies the patch of the reference, after a dry run that wrote nothing', async () => {
    await fixture.sh('git init -q /tmp/repo; echo old content > /tmp/repo/file.txt');
    const files = [{ path: 'file.txt', change: 'modified', additions: 1, deletions: 1 }];
    expect(await run(REFERENCE, { dryRun: true })).toMatchObject(files);
    expect((await fixture.sh('cat /tmp/repo/file.txt')).stdout.toString()).toBe('old content\n');
    expect(await run(REFERENCE)).toMatchObject(files);
    expect((await fixture.sh('cat /tmp/repo/file.txt; ls -A /tmp/repo')).stdout.toString()).toBe(
      'new content\n.git\nfile.txt\n',
    );
    await expect(run(REFERENCE)).rejects.toMatchObject({
      reason: 'patch_failed',
      data: { file: 'file.txt', hunk: 1, line: 1 },
    });
  });

  it('apply applies patches made by git: adds, deletes, renames, modes, odd names, missing new lines', async () => {
    const made = await fixture.sh(`
      exec 2>&1; set -e; git init -q /tmp/made; cd /tmp/made; git config user.name a; git config user.email a@example.com
      seq 50 > numbers; echo gone > gone; echo tool > tool; printf 'no end' > end; echo same > from
      git add .; git commit -qm one; git clone -q . /tmp/copy
      sed -i 's/^7$/seven/; s/^40$/forty/' numbers; rm gone; chmod +x tool; printf 'still no end' > end
      mkdir -p "sp ace/ü"; mv from "sp ace/ü/to"; : > empty; git add -A; git diff --cached -M > /tmp/patch; cat /tmp/patch`);
    const files = await run(made.stdout.toString(), { directory: '/tmp/copy' });
    expect(files.map(({ path, change }) => `${change} ${path}`).sort()).toEqual([
      ...['added empty', 'deleted gone', 'modified end', 'modified numbers', 'modified tool'],
      'renamed sp ace/ü/to',
    ]);
    expect(files.find(({ path }) => path === 'numbers')).toMatchObject({ additions: 2, deletions: 2 });
    const compared = await fixture.sh(
      'diff -r --exclude=.git /tmp/made /tmp/copy && test -x /tmp/copy/tool && echo same',
    );
    expect(compared.stdout.toString()).toBe('same\n');
  });

  it('apply works below a repository and outside of one', async () => {
    await fixture.sh(
      'mkdir -p /tmp/repo/sub ~/plain; echo old content | tee /tmp/repo/sub/file.txt > ~/plain/file.txt',
    );
    await run(REFERENCE, { directory: '/tmp/repo/sub' });
    await run(REFERENCE, { directory: '/home/user/plain' });
    const { stdout } = await fixture.sh('cat /tmp/repo/sub/file.txt ~/plain/file.txt');
    expect(stdout.toString()).toBe('new content\nnew content\n');
  });

  it('apply applies a patch saved on Windows', async () => {
    await fixture.sh('mkdir ~/windows');
    const lines = [
      'diff --git a/cn b/cn',
      'new file mode 100644',
      'index 0000000..975fbec',
      '--- /dev/null',
      '+++ b/cn',
    ];
    await run([...lines, '@@ -0,0 +1 @@', '+y', ''].join('\r\n'), { directory: '/home/user/windows' });
    expect((await fixture.sh('cat ~/windows/cn')).stdout.toString()).toBe('y\r\n');
  });

  it.each([
    ['missing', '--- a/missing\n+++ b/missing\n@@ -1 +1 @@\n-a\n+b\n', { file: 'missing', hunk: 1 }],
    ['already there', '--- /dev/null\n+++ b/there\n@@ -0,0 +1 @@\n+b\n', { file: 'there', hunk: 1 }],
    [
      'missing under the name it had',
      'diff --git a/zz b/yy\nsimilarity index 100%\nrename from zz\nrename to yy\n',
      { file: 'zz' },
    ],
    ['a directory', '--- /dev/null\n+++ b/full\n@@ -0,0 +1 @@\n+b\n', { file: 'full', hunk: 1 }],
  ])('apply names the file that is %s, in a dry run as in earnest', async (_, patch, data) => {
    await fixture.sh('mkdir -p ~/whole/full; touch ~/whole/there ~/whole/full/file');
    for (const dryRun of [true, false]) {
      await expect(run(patch, { directory: '/home/user/whole', dryRun })).rejects.toMatchObject({
        reason: 'patch_failed',
        data,
      });
    }
  });

  it('apply replaces a directory whose files it deletes with a file', async () => {
    await fixture.sh('mkdir -p ~/turned/d; echo x > ~/turned/d/x');
    const gone = [
      'diff --git a/d/x b/d/x',
      'deleted file mode 100644',
      '--- a/d/x',
      '+++ /dev/null',
      '@@ -1 +0,0 @@',
      '-x',
    ];
    const made = ['diff --git a/d b/d', 'new file mode 100644', '--- /dev/null', '+++ b/d', '@@ -0,0 +1 @@', '+y', ''];
    await run([...gone, ...made].join('\n'), { directory: '/home/user/turned' });
    expect((await fixture.sh('cat ~/turned/d')).stdout.toString()).toBe('y\n');
  });

  it.each([
    ['inside .git', '/home/user/hooked/.git', /is inside \.git$/],
    ['a way into .git', '/home/user/way/hooks', /is inside \.git$/],
    ['read-only', '/etc', /cannot be written to$/],
  ])('apply refuses a directory that is %s', async (_, directory, message) => {
    await fixture.sh('git init -q ~/hooked; ln -sfn ~/hooked/.git ~/way');
    const patch = '--- /dev/null\n+++ b/post-checkout\n@@ -0,0 +1 @@\n+true\n';
    for (const dryRun of [true, false]) {
      await expect(run(patch, { directory, dryRun })).rejects.toMatchObject({
        reason: 'invalid_params',
        data: { issues: [{ path: 'repo_path', message: expect.stringMatching(message) }] },
      });
    }
    expect((await fixture.sh('ls ~/hooked/.git/hooks')).stdout.toString()).not.toContain('post-checkout\n');
  });

  it('apply names the hunk that does not fit', async () => {
    await fixture.sh('mkdir ~/hunks; seq 20 > ~/hunks/n');
    const patch = '--- a/n\n+++ b/n\n@@ -1,3 +1,3 @@\n 1\n-2\n+two\n 3\n@@ -9,3 +9,3 @@\n 9\n-ten\n+10\n 11\n';
    await expect(run(patch, { directory: '/home/user/hunks' })).rejects.toMatchObject({
      reason: 'patch_failed',
      message: 'Patch does not apply: n, hunk 2',
      data: { file: 'n', hunk: 2, line: 9 },
    });
  });

  it('apply returns the same error for a directory of another key as for a missing one', async () => {
    const missing = { reason: 'invalid_params', data: { issues: [{ path: 'repo_path' }] } };
    await expect(run(REFERENCE, { keyId: 'b' })).rejects.toMatchObject(missing);
    await expect(run(REFERENCE, { directory: '/path/to/repo' })).rejects.toMatchObject(missing);
  });
});
