// Changes that `git apply` drops without a message while it applies the rest: combined and context diffs, properties of
// Subversion, changes that a recursive diff reports as a sentence, headers without hunks. A patch that has one is
// refused as a whole.
import { RpcError } from '../errors.ts';
import { headerLine } from './patch-section.ts';

interface Rule {
  /** Group 1 is the file, where the line names it. */
  readonly pattern: RegExp;
  readonly what: string;
  readonly hunk?: 1;
}

const ANYWHERE: readonly Rule[] = [
  { pattern: /^diff --(?:cc|combined) (.*)$/, what: 'a combined diff of a merge', hunk: 1 },
  { pattern: /^@@@+ -\d/, what: 'a combined diff of a merge', hunk: 1 },
  { pattern: /^diff --git (.*)$/, what: 'a header without a change that git can read', hunk: 1 },
  { pattern: /^@@/, what: 'a hunk whose header cannot be read' },
  { pattern: /^Property changes on: (.*)$/, what: 'properties of Subversion' },
  { pattern: /^Cannot display: file marked as a binary type/, what: 'a binary file without its data' },
  { pattern: /^Binary files (.*) and .* differ$/, what: 'a binary file without its data' },
  { pattern: /^Binary file (.*) has changed$/, what: 'a binary file without its data' },
  { pattern: /^GIT binary patch/, what: 'binary data without a header that git can read' },
  { pattern: /^Submodule (.*?) [0-9a-f]{7,}\.{2,3}[0-9a-f]{7,}/, what: 'a submodule' },
  { pattern: /^\* Unmerged path (.*)$/, what: 'an unmerged file' },
  { pattern: /^\d+(?:,\d+)?[acds]$/, what: 'an ed script', hunk: 1 },
  { pattern: /^[ad]\d+ \d+$/, what: 'an RCS script', hunk: 1 },
];

/** Sentences that could be part of a mail as well: they count only next to other lines of a diff. */
const BESIDE_CHANGES: readonly Rule[] = [
  { pattern: /^Only in .+: (.+)$/, what: 'a file that only one side has (make the diff with -N)' },
  { pattern: /^Files (.*) and .* differ$/, what: 'a file whose changes are not there' },
  { pattern: /^Symbolic links (.*) and .* differ$/, what: 'a symbolic link' },
  { pattern: /^File (.*) is an? .* while file .* is an? /, what: 'a file that turns into another type' },
];
const REPORT_LINE = /^(?:Common subdirectories: |Binary files |Only in )/;

/**
 * `index` is a line that starts no section that git reads; `follows`: directly after one, or at the start. Throws
 * RpcError `patch_failed` (data.file, data.hunk, data.patch_line) when git would drop a change there.
 */
export function refuseSkipped(lines: readonly string[], index: number, follows: boolean): void {
  const line = headerLine(lines, index);
  const next = index + 1 < lines.length ? headerLine(lines, index + 1) : undefined;
  for (const { pattern, what, hunk } of ANYWHERE) {
    const match = pattern.exec(line);
    if (match !== null) throw skipped(what, index, match[1], hunk);
  }
  if (line.startsWith('--- ') && next?.startsWith('+++ '))
    throw skipped('a header without hunks', index, next.slice(4), 1);
  if (/^\*{15}/.test(line) && next?.startsWith('*** '))
    throw skipped('a context diff (make a unified one, diff -u)', index, headerLine(lines, index - 1).slice(4), 1);
  if (/^\d+(?:,\d+)?[acd]\d+(?:,\d+)?$/.test(line) && /^[<>] /.test(next ?? ''))
    throw skipped('a normal diff (make a unified one, diff -u)', index, undefined, 1);
  const indexed = /^={20,}$/.test(line) ? /^Index: (.+)$/.exec(headerLine(lines, index - 1))?.[1] : undefined;
  if (indexed !== undefined && isNextFile(next, indexed)) throw skipped('a file without changes', index, indexed);
  const command = commandOf(line);
  if (command !== undefined && !/^(?:---|\*\*\*|Binary|Files|Symbolic) /.test(next ?? ''))
    throw skipped('a file without changes that git can read', index, command, 1);
  if (!follows && !isOfDiff(headerLine(lines, index - 1)) && next !== undefined && !isOfDiff(next)) return;
  for (const { pattern, what } of BESIDE_CHANGES) {
    const match = pattern.exec(line);
    if (match !== null) throw skipped(what, index, match[1]);
  }
}

/**
 * The file of a command line that recursive diffs print before each one's changes: `diff -ruN old/x new/x`, or of
 * Mercurial `diff -r 0123456789ab x`.
 */
function commandOf(line: string): string | undefined {
  const ofMercurial = /^diff(?: -r [0-9a-f]{12})+ (.+)$/.exec(line)?.[1];
  if (ofMercurial !== undefined) return ofMercurial;
  const [, one = '', two = ''] = /^diff -\S.* (\S+) (\S+)$/.exec(line) ?? [];
  const nameOf = (path: string): string => path.slice(path.lastIndexOf('/') + 1);
  return two.includes('/') && nameOf(one) === nameOf(two) ? two : undefined;
}

function isOfDiff(line: string): boolean {
  return REPORT_LINE.test(line) || commandOf(line) !== undefined;
}

/** Whether the lines after `Index: FILE` and its rule are about another file. */
function isNextFile(line: string | undefined, file: string): boolean {
  if (line === undefined || line === '' || line.startsWith('Index: ')) return true;
  return line.startsWith('diff --git ') && !line.includes(file);
}

function skipped(what: string, index: number, named?: string, hunk?: 1): RpcError {
  const file = named?.split('\t', 1)[0]?.replace(/^(?:a\/.* )?[ab]\//, '');
  const where = `line ${index + 1} of the patch`;
  return new RpcError('patch_failed', {
    message: `Patch cannot be applied whole, nothing was changed: ${file ? `${file}: ` : ''}${what} (${where})`,
    data: { ...(file && { file }), ...(hunk && { hunk }), patch_line: index + 1 },
  });
}
