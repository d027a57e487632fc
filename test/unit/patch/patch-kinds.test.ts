// A patch of another tool has the result of `git apply`; one that git would apply in part is refused as a whole.
import { expect, it } from 'vitest';
import { applyPatch } from '../../../shared/patch/patch.ts';
import { readPatch } from '../../../shared/patch/patch-text.ts';
import { createSandboxFixture } from '../../support/fixtures/sandbox/sandbox.ts';
import { describeWith } from '../../support/requirements.ts';

const lines = (...all: readonly string[]): string => `${all.join('\n')}\n`;
const GOOD = lines(
  'diff --git a/other.txt b/other.txt',
  '--- a/other.txt',
  '+++ b/other.txt',
  '@@ -1 +1 @@',
  '-old',
  '+new',
);
const NO_PREFIX = lines(
  ...['diff --git src/limits.txt src/limits.txt', '--- src/limits.txt', '+++ src/limits.txt'],
  ...['@@ -1 +1 @@', '-100', '+200'],
);
const SUBVERSION = lines(
  ...[
    'Index: src/limits.txt',
    '='.repeat(67),
    '--- src/limits.txt\t(revision 1)',
    '+++ src/limits.txt\t(working copy)',
  ],
  ...['@@ -1 +1 @@', '-100', '+200'],
);

/** Git would drop each of them before or after a change that it applies. */
const SKIPPED: readonly (readonly [string, string, object])[] = [
  [
    'a combined diff of a merge',
    lines(
      ...['diff --cc notes.txt', 'index 1111111,2222222..3333333', '--- a/notes.txt', '+++ b/notes.txt'],
      ...['@@@ -1,1 -1,1 +1,1 @@@', '- ours', ' -theirs', '++both'],
    ),
    { file: 'notes.txt', hunk: 1 },
  ],
  ['a combined diff of diff -c', lines('diff --combined notes.txt', 'index 1,2..3'), { file: 'notes.txt', hunk: 1 }],
  [
    'a context diff',
    lines(
      '*** a/notes.txt\t2024',
      '--- b/notes.txt\t2024',
      '*'.repeat(15),
      '*** 1 ****',
      '! old',
      '--- 1 ----',
      '! new',
    ),
    { file: 'notes.txt', hunk: 1 },
  ],
  ['a normal diff', lines('1c1', '< old', '---', '> new'), { hunk: 1 }],
  [
    'an ed script of a recursive diff',
    lines('diff -re a/notes.txt b/notes.txt', '1c', 'new', '.'),
    { file: 'notes.txt' },
  ],
  ['an empty file of diff -ruN', lines('diff -ruN a/empty.txt b/empty.txt'), { file: 'empty.txt' }],
  ['a file of one side', lines('Only in b: fresh.txt'), { file: 'fresh.txt' }],
  ['a binary file of diff -r', lines('Binary files a/x.png and b/x.png differ'), { file: 'x.png' }],
  [
    'a binary file of Mercurial',
    lines('diff -r 0123456789ab x.png', 'Binary file x.png has changed'),
    { file: 'x.png' },
  ],
  ['an empty file of Mercurial', lines('diff -r 0123456789ab empty.txt'), { file: 'empty.txt' }],
  ['an empty file of Subversion', lines('Index: empty.txt', '='.repeat(67)), { file: 'empty.txt' }],
  [
    'properties of Subversion',
    lines('', 'Property changes on: tool.sh', '_'.repeat(67), 'Added: svn:executable', '## -0,0 +1 ##', '+*'),
    { file: 'tool.sh' },
  ],
  ['a submodule', lines('Submodule lib 1234567..89abcde:', '  > commit'), { file: 'lib' }],
  ['an unmerged file', lines('* Unmerged path notes.txt'), { file: 'notes.txt' }],
  ['a header without hunks', lines('--- a/notes.txt', '+++ b/notes.txt', 'text'), { file: 'notes.txt', hunk: 1 }],
  [
    'a new file whose lines are missing',
    lines('diff --git a/n.txt b/n.txt', 'new file mode 100644', '--- /dev/null', '+++ b/n.txt', 'text'),
    { file: 'n.txt' },
  ],
  [
    'binary data behind line ends of Windows',
    lines('diff --git a/b b/b\r', 'new file mode 100644\r', 'GIT binary patch\r', 'literal 1\r', 'IcmZQz00I&Q\r', '\r'),
    {},
  ],
  ['a hunk whose header is none', lines('', '@@ ... @@', '-old', '+new'), {}],
  ['a git header alone', lines('diff --git a/notes.txt b/notes.txt'), { file: 'notes.txt' }],
];

it.each(SKIPPED)('a patch with %s is refused, before and after a change that git would apply', (_, part, data) => {
  for (const patch of [`${part}${GOOD}`, `${GOOD}${part}`, part]) {
    expect(() => readPatch(patch)).toThrow(
      expect.objectContaining({ reason: 'patch_failed', data: expect.objectContaining(data) }),
    );
  }
});

it.each([
  [
    'a mail that mentions diffs',
    lines('Subject: x', '', 'Only in debug builds: no', 'diff -u a/x is meant', 'File a', '---'),
  ],
  [
    'the lines above a diff of CVS',
    lines('Index: other.txt', '='.repeat(67), 'RCS file: x', 'diff -u -r1.1 other.txt'),
  ],
  ['the summary of a diff', lines(' other.txt | 2 +-', ' 1 file changed', ' mode change 100644 => 100755 x', '')],
])('a patch with %s is accepted', (_, text) => {
  expect(readPatch(`${text}${GOOD}`)).toHaveLength(1);
});

describeWith('bubblewrap', 'a patch of another tool', async () => {
  const fixture = await createSandboxFixture();
  const { signal } = new AbortController();
  let number = 0;
  /** Applies to a directory of its own with these files; returns its files afterwards. */
  const run = async (files: Readonly<Record<string, string>>, patch: string) => {
    const directory = `/home/user/${++number}`;
    const made = Object.entries(files).map(
      ([path, text]) => `mkdir -p "$(dirname ${path})"; printf '${text}\\n' > ${path}`,
    );
    await fixture.sh(`mkdir ${directory}; cd ${directory}; ${made.join('; ')}`);
    const outcome = await applyPatch(fixture.sandbox, { keyId: 'a', patch, directory, dryRun: false, signal }).catch(
      (error: unknown) => error,
    );
    const { stdout } = await fixture.sh(
      `cd ${directory}; find . -type f | sort | while read f; do echo "$f $(cat "$f")"; done`,
    );
    return { outcome, tree: stdout.toString() };
  };

  it.each([
    ['git diff --no-prefix', NO_PREFIX],
    ['Subversion', SUBVERSION],
  ])('a name without a/ and b/ is the whole name of the file: %s', async (_, patch) => {
    const both = await run({ 'limits.txt': '100', 'src/limits.txt': '100' }, patch);
    expect(both.tree).toBe('./limits.txt 100\n./src/limits.txt 200\n');
    expect(both.outcome).toMatchObject([{ path: 'src/limits.txt', change: 'modified' }]);
    // Git's choice, where that is the only existing file.
    expect((await run({ 'limits.txt': '100' }, patch)).tree).toBe('./limits.txt 200\n');
    // The file that the patch names has changed: the other one is never patched.
    const changed = await run({ 'limits.txt': '100', 'src/limits.txt': '1' }, patch);
    expect(changed.tree).toBe('./limits.txt 100\n./src/limits.txt 1\n');
    expect(changed.outcome).toMatchObject({ reason: 'patch_failed', data: { file: 'src/limits.txt', hunk: 1 } });
  });

  it('a plain deletion deletes the file that it names, not its namesake without the directory', async () => {
    const patch = lines('--- src/limits.txt', '+++ /dev/null', '@@ -1 +0,0 @@', '-100');
    const both = await run({ 'limits.txt': '100', 'src/limits.txt': '100' }, patch);
    expect(both.tree).toBe('./limits.txt 100\n');
    expect(both.outcome).toMatchObject([{ path: 'src/limits.txt', change: 'deleted' }]);
    const prefixed = lines('--- a/limits.txt', '+++ /dev/null', '@@ -1 +0,0 @@', '-100');
    expect((await run({ 'limits.txt': '100', 'a/limits.txt': '100' }, prefixed)).tree).toBe('./a/limits.txt 100\n');
  });

  it('a patch of another tool has complete names for new files', async () => {
    const git = lines(
      'diff --git src/n.txt src/n.txt',
      'new file mode 100644',
      '--- /dev/null',
      '+++ src/n.txt',
      '@@ -0,0 +1 @@',
      '+n',
    );
    expect((await run({}, git)).tree).toBe('./src/n.txt n\n');
    const svn = lines(
      'Index: src/n.txt',
      '='.repeat(67),
      '--- src/n.txt\t(nonexistent)',
      '+++ src/n.txt\t(working copy)',
      '@@ -0,0 +1 @@',
      '+n',
    );
    expect(await run({}, svn)).toMatchObject({ tree: './src/n.txt n\n', outcome: [{ change: 'added' }] });
    const prefixed = lines('--- /dev/null', '+++ b/src/n.txt', '@@ -0,0 +1 @@', '+n');
    expect((await run({}, prefixed)).tree).toBe('./src/n.txt n\n');
  });

  it('a patch that contains a combined diff, which git would omit, is refused as a whole', async () => {
    const { outcome, tree } = await run({ 'notes.txt': 'ours', 'other.txt': 'old' }, `${SKIPPED[0]?.[1]}${GOOD}`);
    expect(outcome).toMatchObject({ reason: 'patch_failed', data: { file: 'notes.txt', hunk: 1 } });
    expect(tree).toBe('./notes.txt ours\n./other.txt old\n');
  });

  it.each([
    ['tool/Makefile', './tool/Makefile CC?=gcc\n'],
    ['Makefile', './Makefile CC?=gcc\n'],
  ])('a patch of another tool has a copy as its old name, and %s', async (path, tree) => {
    const patch = lines('--- tool/Makefile.orig', '+++ tool/Makefile', '@@ -1 +1 @@', '-CC=gcc', '+CC?=gcc');
    expect((await run({ [path]: 'CC=gcc' }, patch)).tree).toBe(tree);
  });

  it('a patch whose file names are followed by a space and a time is applied', async () => {
    const patch = lines(
      ...['--- a/list.txt 2024-05-01 10:00:00.000000000 +0000', '+++ b/list.txt 2024-05-02 10:00:00.000000000 +0000'],
      ...['@@ -1 +1,2 @@', ' one', '+two'],
    );
    expect((await run({ 'list.txt': 'one' }, patch)).tree).toBe('./list.txt one\ntwo\n');
  });

  it('the time 1970-01-01 marks a file as new or deleted', async () => {
    const zero = '1970-01-01 00:00:00.000000000 +0000';
    const west = '1969-12-31 19:00:00.000000000 -0500';
    const late = '2024-05-02 10:00:00.000000000 +0000';
    for (const epoch of [zero, west]) {
      const added = lines(`--- new.txt\t${epoch}`, `+++ new.txt\t${late}`, '@@ -0,0 +1 @@', '+hello');
      expect(await run({}, added)).toMatchObject({
        tree: './new.txt hello\n',
        outcome: [{ path: 'new.txt', change: 'added' }],
      });
      const deleted = lines(`--- a/new.txt\t${late}`, `+++ b/new.txt\t${epoch}`, '@@ -1 +0,0 @@', '-hello');
      expect(await run({ 'new.txt': 'hello' }, deleted)).toMatchObject({ tree: '', outcome: [{ change: 'deleted' }] });
    }
  });

  it('a binary patch that contains its data is applied', async () => {
    const { stdout } = await fixture.sh(`
      exec 2>&1; git init -q ~/binary; cd ~/binary; printf 'a\\0b' > x.bin; git add .; git diff --cached --binary`);
    const directory = '/home/user/binary-copy';
    await fixture.sh(`mkdir ${directory}`);
    const patch = stdout.toString();
    const files = await applyPatch(fixture.sandbox, { keyId: 'a', patch, directory, dryRun: false, signal });
    expect(files).toEqual([{ path: 'x.bin', oldPath: undefined, change: 'added', additions: 0, deletions: 0 }]);
    expect((await fixture.sh(`cmp ~/binary/x.bin ${directory}/x.bin && echo same`)).stdout.toString()).toBe('same\n');
  });
});
