// Rejects patches with changes that `git apply` skips without a message while it applies the others: combined and
// context diffs, properties of Subversion, changes that a recursive diff reports as a sentence, headers without hunks.
import { RpcError } from '../errors.ts';
import { headerLine } from './patch-section.ts';

interface Rule {
  /** Group 1 is the file, where the line names one. */
  readonly pattern: RegExp;
  readonly what: string;
  /** Whether the skipped change is the first hunk of a file, which the error then names. */
  readonly isFirstHunk?: true;
}

const RULES: readonly Rule[] = [
  { pattern: /^diff --(?:cc|combined) (.*)$/, what: 'a combined diff of a merge', isFirstHunk: true },
  { pattern: /^@@@+ -\d/, what: 'a combined diff of a merge', isFirstHunk: true },
  { pattern: /^diff --git (.*)$/, what: 'a header without a change that git can read', isFirstHunk: true },
  { pattern: /^@@/, what: 'a hunk whose header cannot be read' },
  { pattern: /^Property changes on: (.*)$/, what: 'properties of Subversion' },
  { pattern: /^Cannot display: file marked as a binary type/, what: 'a binary file without its data' },
  { pattern: /^Binary files (.*) and .* differ$/, what: 'a binary file without its data' },
  { pattern: /^Binary file (.*) has changed$/, what: 'a binary file without its data' },
  { pattern: /^GIT binary patch/, what: 'binary data without a header that git can read' },
  { pattern: /^Submodule (.*?) [0-9a-f]{7,}\.{2,3}[0-9a-f]{7,}/, what: 'a submodule' },
  { pattern: /^\* Unmerged path (.*)$/, what: 'an unmerged file' },
  { pattern: /^\d+(?:,\d+)?[acds]$/, what: 'an ed script', isFirstHunk: true },
  { pattern: /^[ad]\d+ \d+$/, what: 'an RCS script', isFirstHunk: true },
];

/** Lines that can also occur in the text of an e-mail. They are checked only next to other lines of a diff. */
const RULES_NEXT_TO_DIFF: readonly Rule[] = [
  { pattern: /^Only in .+: (.+)$/, what: 'a file that exists in one directory only (create the diff with -N)' },
  { pattern: /^Files (.*) and .* differ$/, what: 'a file whose changes the patch does not contain' },
  { pattern: /^Symbolic links (.*) and .* differ$/, what: 'a symbolic link' },
  { pattern: /^File (.*) is an? .* while file .* is an? /, what: 'a file that changes its type' },
];
const REPORT_LINE = /^(?:Common subdirectories: |Binary files |Only in )/;

/**
 * Checks a line that starts no section that git reads. `isAfterSection`: the line is the first after such a section, or
 * of the patch. Throws RpcError `patch_failed` (data.file, data.hunk, data.patch_line) when git would skip a change
 * here.
 */
export function checkNotSkipped(lines: readonly string[], index: number, isAfterSection: boolean): void {
  const line = headerLine(lines, index);
  const next = index + 1 < lines.length ? headerLine(lines, index + 1) : undefined;
  throwIfMatched(RULES, line, index);
  checkHeaderOfTwoLines(lines, index);
  const previous = headerLine(lines, index - 1);
  // The first and the last line of the patch may belong to a diff; others must have a neighbour that does.
  if (isAfterSection || next === undefined || isPartOfDiff(previous) || isPartOfDiff(next))
    throwIfMatched(RULES_NEXT_TO_DIFF, line, index);
}

function throwIfMatched(rules: readonly Rule[], line: string, index: number): void {
  for (const { pattern, what, isFirstHunk } of rules) {
    const match = pattern.exec(line);
    if (match !== null) throw skipped(what, index, { file: match[1], isFirstHunk });
  }
}

/** Headers that only the line together with its neighbours shows. */
function checkHeaderOfTwoLines(lines: readonly string[], index: number): void {
  const line = headerLine(lines, index);
  const next = index + 1 < lines.length ? headerLine(lines, index + 1) : undefined;
  const isFirstHunk = true;
  if (line.startsWith('--- ') && next?.startsWith('+++ '))
    throw skipped('a header without hunks', index, { file: next.slice(4), isFirstHunk });
  if (/^\*{15}/.test(line) && next?.startsWith('*** ')) {
    const file = headerLine(lines, index - 1).slice(4);
    throw skipped('a context diff (create a unified one, diff -u)', index, { file, isFirstHunk });
  }
  if (/^\d+(?:,\d+)?[acd]\d+(?:,\d+)?$/.test(line) && /^[<>] /.test(next ?? ''))
    throw skipped('a normal diff (create a unified one, diff -u)', index, { isFirstHunk });
  const indexed = /^={20,}$/.test(line) ? /^Index: (.+)$/.exec(headerLine(lines, index - 1))?.[1] : undefined;
  if (indexed !== undefined && isAnotherFile(next, indexed))
    throw skipped('a file without changes', index, { file: indexed });
  const file = fileOfCommand(line);
  if (file !== undefined && !/^(?:---|\*\*\*|Binary|Files|Symbolic) /.test(next ?? ''))
    throw skipped('a file without changes that git can read', index, { file, isFirstHunk });
}

/**
 * The file in a command line that a recursive diff prints before the changes of each file: `diff -ruN old/x new/x`, or
 * of Mercurial `diff -r 0123456789ab x`.
 */
function fileOfCommand(line: string): string | undefined {
  const ofMercurial = /^diff(?: -r [0-9a-f]{12})+ (.+)$/.exec(line)?.[1];
  if (ofMercurial !== undefined) return ofMercurial;
  const [, one = '', two = ''] = /^diff -\S.* (\S+) (\S+)$/.exec(line) ?? [];
  const nameOf = (path: string): string => path.slice(path.lastIndexOf('/') + 1);
  return two.includes('/') && nameOf(one) === nameOf(two) ? two : undefined;
}

function isPartOfDiff(line: string): boolean {
  return REPORT_LINE.test(line) || fileOfCommand(line) !== undefined;
}

/** Whether the line after `Index: FILE` and its separator line (`====`) starts the section of another file. */
function isAnotherFile(line: string | undefined, file: string): boolean {
  if (line === undefined || line === '' || line.startsWith('Index: ')) return true;
  return line.startsWith('diff --git ') && !line.includes(file);
}

interface SkippedIn {
  /** The file's name as the patch writes it. */
  readonly file?: string | undefined;
  readonly isFirstHunk?: true | undefined;
}

function skipped(what: string, index: number, { file: written, isFirstHunk }: SkippedIn): RpcError {
  const file = written?.split('\t', 1)[0]?.replace(/^(?:a\/.* )?[ab]\//, '');
  const where = `line ${index + 1} of the patch`;
  return new RpcError('patch_failed', {
    message: `Patch cannot be applied whole, nothing was changed: ${file ? `${file}: ` : ''}${what} (${where})`,
    data: { ...(file && { file }), ...(isFirstHunk && { hunk: 1 }), patch_line: index + 1 },
  });
}
