// Parses the changes to one file in a patch by the rules of `git apply`: a git header or the two lines of a traditional
// header, then hunks. It counts the changed lines and rejects changes that are not allowed. Git itself parses the file
// names (patch-reading.ts).
import { patchIssue } from './patch-issue.ts';

export interface PatchSection {
  readonly additions: number;
  readonly deletions: number;
  /** First old line of each hunk, in order. */
  readonly hunks: readonly number[];
  readonly isBinary: boolean;
  /** Whether the header renames or copies the file. */
  readonly move: 'renamed' | 'copied' | undefined;
  /** Whether the file must already exist. */
  readonly needsOld: boolean;
  /**
   * `whole`: both names are equal as written, so neither has a prefix. `prefixed`: they differ, so they have prefixes
   * (`a/`, `b/`). `open`: only one name is given, so it is not decided.
   */
  readonly names: 'whole' | 'prefixed' | 'open';
}

/** A position in the lines of a patch. */
export interface Cursor {
  readonly lines: readonly string[];
  at: number;
}

const HUNK = /^@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@/;
/** Lines that git accepts as part of its header, in any order. */
const HEADER_NAMES = [
  ...['---', '\\+\\+\\+', 'index', '(?:dis)?similarity index'],
  ...['(?:old|new|deleted file|new file) mode', '(?:copy|rename) (?:from|to)', 'rename (?:old|new)'],
];
const HEADER = new RegExp(`^(${HEADER_NAMES.join('|')}) (.*)$`, 's');
const BINARY_LITERAL = /^(?:literal|delta) \d/;
/** The shortest `\ No newline at end of file` that git accepts, in any language. */
const NO_NEWLINE_CHARS_MIN = 11;

/** The line without its CR, with which header lines end in patches that were saved on Windows. */
export function headerLine(lines: readonly string[], index: number): string {
  return (lines[index] ?? '').replace(/\r$/, '');
}

export function isHunkHeader(line: string): boolean {
  return HUNK.test(line);
}

/** The three lines by which git recognises a file without a git header. */
function isPlainHeader(lines: readonly string[], index: number): boolean {
  const [from = '', to = '', hunk = ''] = lines.slice(index, index + 3);
  return from.startsWith('--- ') && to.startsWith('+++ ') && hunk.startsWith('@@ -');
}

/**
 * Returns the section that starts at the cursor and moves the cursor behind it; undefined when none starts there.
 * Throws RpcError `invalid_params` with the invalid line.
 */
export function readSection(cursor: Cursor): PatchSection | undefined {
  const { lines, at } = cursor;
  if (headerLine(lines, at).startsWith('diff --git ')) return readGitSection(cursor);
  if (!isPlainHeader(lines, at)) return undefined;
  const names = [headerLine(lines, at).slice(4), headerLine(lines, at + 1).slice(4)] as const;
  for (const name of names) checkName(name, at);
  cursor.at += 2;
  const { oldLines, ...counted } = readHunks(cursor);
  return { ...counted, isBinary: false, move: undefined, needsOld: oldLines > 0, names: namesOf(...names) };
}

/** Undefined for a header without any change, which git ignores. */
function readGitSection(cursor: Cursor): PatchSection | undefined {
  const { lines, at: startedAt } = cursor;
  const header = new Map<string, string>();
  let at = startedAt + 1;
  for (; at < lines.length; at++) {
    const [, name, value = ''] = HEADER.exec(headerLine(lines, at)) ?? [];
    if (name === undefined) break;
    if (name === '---' || name === '+++') checkName(value, at);
    checkMode(name, value, at);
    header.set(name, value);
  }
  if (header.size === 0) return undefined;
  cursor.at = at;
  const { oldLines, ...counted } = readHunks(cursor);
  const has = (...names: readonly string[]): boolean => names.some((name) => header.has(name));
  const hasHunks = counted.hunks.length > 0;
  const isBinary = !hasHunks && readBinary(cursor);
  // The hunks are missing or damaged. Git would accept the header without them, so this is not a section.
  if (!hasHunks && !isBinary && has('---', '+++')) {
    cursor.at = startedAt;
    return undefined;
  }
  return {
    ...counted,
    isBinary,
    move: has('copy from', 'copy to') ? 'copied' : has('rename from', 'rename old') ? 'renamed' : undefined,
    needsOld: hasHunks ? oldLines > 0 : !header.has('new file mode'),
    names: gitNamesOf(headerLine(lines, startedAt).slice('diff --git '.length), header),
  };
}

function readHunks(cursor: Cursor) {
  const { lines } = cursor;
  const hunks: number[] = [];
  let additions = 0;
  let deletions = 0;
  let oldLines = 0;
  while ((lines[cursor.at] ?? '').startsWith('@@ -')) {
    const startedAt = cursor.at++;
    const match = HUNK.exec(lines[startedAt] ?? '');
    if (match === null) throw patchIssue(`hunk ${hunks.length + 1} has a header that cannot be read`, startedAt);
    let oldLeft = Number(match[2] ?? 1);
    let newLeft = Number(match[4] ?? 1);
    oldLines += oldLeft;
    hunks.push(Number(match[1]));
    const before = additions + deletions;
    for (; oldLeft > 0 || newLeft > 0; cursor.at++) {
      const line = lines[cursor.at];
      const kind = line === undefined ? 'end' : line.charAt(0);
      if (kind === '-') deletions++;
      else if (kind === '+') additions++;
      else if (kind === '\\' ? !isNoNewline(line) : kind !== ' ' && kind !== '')
        throw patchIssue(`hunk ${hunks.length} does not have the lines it announces`, startedAt);
      if (kind === '-' || kind === ' ' || kind === '') oldLeft--;
      if (kind === '+' || kind === ' ' || kind === '') newLeft--;
      if (oldLeft < 0 || newLeft < 0)
        throw patchIssue(`hunk ${hunks.length} has more lines than it announces`, startedAt);
    }
    if (additions + deletions === before) throw patchIssue(`hunk ${hunks.length} changes nothing`, startedAt);
    if (isNoNewline(lines[cursor.at])) cursor.at++;
  }
  if (hunks.length > 0 && hasMore(cursor)) {
    throw patchIssue(`hunk ${hunks.length} has more lines than it announces`, cursor.at);
  }
  return { hunks, additions, deletions, oldLines };
}

function isNoNewline(line: string | undefined): boolean {
  return line?.startsWith('\\ ') === true && line.length >= NO_NEWLINE_CHARS_MIN;
}

/**
 * Whether lines of a change follow the last line of a hunk; git would skip them without a message. A line `-- ` or a
 * long line of dashes is the end of an e-mail.
 */
function hasMore({ lines, at }: Cursor): boolean {
  let next = at;
  while (headerLine(lines, next) === '' && next < lines.length) next++;
  const line = headerLine(lines, next);
  const isHeader = line.startsWith('--- ') && headerLine(lines, next + 1).startsWith('+++ ');
  const isMail = line.trimEnd() === '--' || (next > at && line.startsWith('-'.repeat(14)));
  return /^[-+ ]/.test(line) && !isMail && !isHeader;
}

/** `GIT binary patch` with one or two blocks of data up to an empty line, or the one line of a diff without them. */
function readBinary(cursor: Cursor): boolean {
  const { lines } = cursor;
  const first = lines[cursor.at] ?? '';
  if (/^(?:Binary f|F)iles .* differ$/.test(first)) {
    cursor.at++;
    return true;
  }
  if (first !== 'GIT binary patch') return false;
  cursor.at++;
  for (let block = 0; block < 2 && BINARY_LITERAL.test(lines[cursor.at] ?? ''); block++) {
    while (cursor.at < lines.length && lines[cursor.at] !== '') cursor.at++;
    cursor.at++;
  }
  return true;
}

function checkName(name: string, at: number): void {
  if (name.startsWith('/') && !isDevNull(name)) throw patchIssue('must not contain absolute paths', at);
  // Git would use only the text before the NUL as the name.
  if (name.startsWith('"') && name.includes('\\000')) throw patchIssue('has a path with control characters', at);
}

function isDevNull(name: string): boolean {
  return /^\/dev\/null(?:\s|$)/.test(name);
}

function checkMode(name: string, value: string, at: number): void {
  const mode = name.endsWith(' mode') ? value.trim() : name === 'index' ? / (\d+)\s*$/.exec(value)?.[1] : undefined;
  if (mode === undefined || /^100[0-7]{3}$/.test(mode)) return;
  if (mode === '120000') throw patchIssue('must not touch symbolic links', at);
  if (mode === '160000') throw patchIssue('must not touch submodules', at);
  throw patchIssue('has a file mode other than that of a regular file', at);
}

/**
 * Compares the names in `diff --git NAME NAME`. A rename or copy repeats both names in its header lines, always without
 * a prefix.
 */
function gitNamesOf(names: string, header: ReadonlyMap<string, string>): PatchSection['names'] {
  const from = header.get('rename from') ?? header.get('rename old') ?? header.get('copy from');
  const to = header.get('rename to') ?? header.get('rename new') ?? header.get('copy to');
  if (from !== undefined && to !== undefined) return names === `${from} ${to}` ? 'whole' : 'prefixed';
  const middle = (names.length - 1) / 2;
  const isTwice = names[middle] === ' ' && names.slice(0, middle) === names.slice(middle + 1);
  return isTwice ? 'whole' : 'prefixed';
}

/** In a traditional header, names with prefixes differ in their first path component. */
function namesOf(from: string, to: string): PatchSection['names'] {
  if (isDevNull(from) || isDevNull(to)) return 'open';
  const [one, two] = [from, to].map((name) => /^"?([^/\t]*)\//.exec(name)?.[1]);
  return one === two ? 'whole' : 'prefixed';
}
