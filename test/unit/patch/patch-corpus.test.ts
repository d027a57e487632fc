// `apply` makes the same tree and the same refusals as `git apply`, for the patches of git, GNU diff, Subversion and
// Mercurial, except for the differences below. The scripts of `apply` run unchanged, without the sandbox.
import { execFile } from 'node:child_process';
import { cpSync, lstatSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isDeepStrictEqual } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { RpcError } from '../../../shared/errors.ts';
import { applyPatch } from '../../../shared/patch/patch.ts';
import type { Commands, RunResult } from '../../../shared/sandbox/commands.ts';
import { type Corpus, makeCorpus } from '../../support/fixtures/sandbox/patch-corpus.ts';
import { describeWith } from '../../support/requirements.ts';

/** Names are complete, and git would strip their first directory: `-p0` is right. */
const WHOLE = [
  ...['diff-labels-whole', 'diff-tilde', 'git-config-no-prefix', 'git-no-prefix', 'hg-git-no-prefix', 'svn-one'],
];
/** Git would drop a change without a message. */
const IN_PART = [
  ...['diff-binary-file', 'diff-no-time', 'diff-ru', 'diff-ruP'],
  ...['hg-binary-file', 'hg-export', 'hg-log', 'svn-no-added'],
];
/** A random seed would make a failure hard to reproduce; PATCH_SEED changes it. */
const SEED = Number(process.env.PATCH_SEED ?? 1);
const MUTANTS = Number(process.env.PATCH_MUTANTS ?? 60);
const AT_ONCE = 4;

type Tree = ReadonlyMap<string, string>;
interface Outcome {
  readonly ours: 'applied' | 'refused whole' | 'patch_failed' | 'invalid_params';
  readonly git: 'applied' | 'refused';
  readonly isSame: boolean;
  readonly isUnchanged: boolean;
}

/** Some 900 short processes: a bound against hanging on a busy machine. */
const TIMEOUT_MS = 180_000;

describeWith('patches', 'the corpus of patches', () => {
  const directory = mkdtempSync(join(tmpdir(), 'corpus-'));
  let corpus: Corpus;
  let base: Tree;
  beforeAll(() => {
    corpus = makeCorpus(directory);
    base = readTree(corpus.base);
  }, TIMEOUT_MS);
  afterAll(() => rmSync(directory, { recursive: true, force: true }));

  /** Applies with both, each on a tree of its own. */
  const compare = async (name: string, patch: string, strip: readonly string[] = []): Promise<Outcome> => {
    const [mine, gits] = ['ours', 'git'].map((who) => join(directory, `${who}-${name}`)) as [string, string];
    for (const copy of [mine, gits]) cpSync(corpus.base, copy, { recursive: true });
    const ours = await applied(patch, mine);
    const text = patch.endsWith('\n') ? patch : `${patch}\n`;
    const { exitCode, stderr } = await runPlain(['git', 'apply', '--whitespace=nowarn', ...strip], gits, text);
    const trees = { ours: readTree(mine), git: readTree(gits) };
    for (const copy of [mine, gits]) rmSync(copy, { recursive: true });
    return {
      ours,
      // It exits with 0, and drops everything after binary data that it cannot read.
      git: exitCode === 0 && !stderr.includes('error: ') ? 'applied' : 'refused',
      isSame: isDeepStrictEqual(trees.ours, trees.git),
      isUnchanged: isDeepStrictEqual(trees.ours, base),
    };
  };

  it('the corpus of patches is applied and refused as by git, except for the documented differences', {
    timeout: TIMEOUT_MS,
  }, async () => {
    const wrong: unknown[] = [];
    await inTurns([...corpus.patches], async ([name, patch]) => {
      const outcome = await compare(name, patch, WHOLE.includes(name) ? ['-p0'] : []);
      const { ours, git, isSame, isUnchanged } = outcome;
      const isRight = IN_PART.includes(name)
        ? ours === 'refused whole' && git === 'applied' && isUnchanged
        : isSame && (ours === 'applied') === (git === 'applied');
      if (!isRight) wrong.push({ name, ...outcome });
    });
    expect(wrong).toEqual([]);
    expect(corpus.patches.size).toBeGreaterThan(150);
    expect([...WHOLE, ...IN_PART].filter((name) => !corpus.patches.has(name))).toEqual([]);
  });

  it('the corpus of patches with a wrong line or byte is never applied in part or differently from git', {
    timeout: TIMEOUT_MS,
  }, async () => {
    const random = mulberry(SEED);
    const pick = <Item>(items: readonly Item[]): Item => items[Math.floor(random() * items.length)] as Item;
    const sources = [...corpus.patches].filter(([name]) => !WHOLE.includes(name) && !IN_PART.includes(name));
    const mutants = Array.from({ length: MUTANTS }, (_, index) => {
      const [name, patch] = pick(sources);
      return { name: `${index}-${name}`, patch: mutate(patch, random) };
    });
    const wrong: unknown[] = [];
    await inTurns(mutants, async ({ name, patch }) => {
      const outcome = await compare(name, patch);
      const { ours, git, isSame, isUnchanged } = outcome;
      const isRight = ours === 'applied' ? git === 'applied' && isSame : isUnchanged;
      if (!isRight || (git === 'applied' && ours !== 'applied' && ours !== 'refused whole'))
        wrong.push({ name, ...outcome });
    });
    expect(wrong, `PATCH_SEED=${SEED}`).toEqual([]);
  });
});

async function applied(patch: string, directory: string): Promise<Outcome['ours']> {
  const { signal } = new AbortController();
  try {
    await applyPatch(plainSandbox, { keyId: 'a', patch, directory, dryRun: false, signal });
    return 'applied';
  } catch (error) {
    if (!(error instanceof RpcError)) throw error;
    // Git would drop a section, or lines after a hunk.
    if ('patch_line' in error.data || JSON.stringify(error.data).includes('more lines than')) return 'refused whole';
    if (error.reason === 'patch_failed' || error.reason === 'invalid_params') return error.reason;
    throw error;
  }
}

/** Removes, duplicates, swaps or changes a character in one to three lines; or truncates the text. */
function mutate(patch: string, random: () => number): string {
  const at = (length: number): number => Math.floor(random() * length);
  if (random() < 0.2) return patch.slice(0, at(patch.length));
  const lines = patch.split('\n');
  for (let count = 1 + at(3); count > 0; count--) {
    const index = at(lines.length);
    const line = lines[index] ?? '';
    const how = at(5);
    if (how === 0) lines.splice(index, 1);
    else if (how === 1) lines.splice(index, 0, line);
    else if (how === 2) lines.splice(at(lines.length), 0, ...lines.splice(index, 1));
    else if (how === 3) lines[index] = line.slice(1);
    else lines[index] = line.slice(0, at(line.length)) + String.fromCharCode(32 + at(95)) + line.slice(at(line.length));
  }
  return lines.join('\n');
}

/** Numbers from 0 to 1 from a seed (mulberry32). */
function mulberry(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

async function inTurns<Item>(items: readonly Item[], work: (item: Item) => Promise<void>): Promise<void> {
  const left = items.values();
  await Promise.all(
    Array.from({ length: AT_ONCE }, async () => {
      for (const item of left) await work(item);
    }),
  );
}

/** Every path with its mode and content. */
function readTree(directory: string): Tree {
  const names = readdirSync(directory, { recursive: true, encoding: 'utf8' }).sort();
  return new Map(
    names.map((name) => {
      const { mode } = lstatSync(join(directory, name));
      const isFile = (mode & 0o170000) === 0o100000;
      return [
        name,
        `${(mode & 0o111) !== 0 ? 'x' : '-'} ${isFile ? readFileSync(join(directory, name), 'latin1') : ''}`,
      ];
    }),
  );
}

const plainSandbox: Pick<Commands, 'run'> = {
  run: ({ argv, cwd = '/' }, { stdin = '' }) => runPlain(argv, cwd, stdin),
};

function runPlain(
  [program, ...args]: readonly [string, ...string[]],
  cwd: string,
  stdin: string | Uint8Array,
): Promise<RunResult> {
  return new Promise((resolve) => {
    const env = { PATH: process.env.PATH ?? '', GIT_CEILING_DIRECTORIES: join(cwd, '..'), LC_ALL: 'C' };
    const child = execFile(
      program,
      args,
      { cwd, env, encoding: 'buffer', maxBuffer: 8 << 20 },
      (error, stdout, stderr) => {
        const exitCode = error === null ? 0 : typeof error.code === 'number' ? error.code : 1;
        resolve({ stdout, stderr, exitCode, signal: undefined, timedOut: false, truncated: false, durationMs: 0 });
      },
    );
    child.stdin?.on('error', () => {});
    child.stdin?.end(stdin);
  });
}
