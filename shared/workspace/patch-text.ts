// Reads a unified or git patch strictly, before anything is started: which files it touches and how, and whether a gateway lets it. Git
// reads it again in the sandbox; where the two disagree, nothing is written.
import { patchIssue } from './patch-issue.ts';
import { readName, stripPrefix } from './patch-path.ts';

export type Change = 'added' | 'modified' | 'deleted' | 'renamed' | 'copied';

export interface PatchedFile {
  /** Relative to the repository; for a deleted file its old path. */
  readonly path: string;
  /** Where it is renamed or copied from. */
  readonly oldPath: string | undefined;
  readonly change: Change;
  readonly additions: number;
  readonly deletions: number;
  /** First old line of each hunk, in order. */
  readonly hunks: readonly number[];
}

export const PATCH_BYTES_MAX = 1 << 20;
export const PATCH_FILES_MAX = 200;

const HUNK = /^@@ -(\d{1,9})(?:,(\d{1,9}))? \+(\d{1,9})(?:,(\d{1,9}))? @@/;
const HEADER =
  /^(old mode|new mode|deleted file mode|new file mode|copy from|copy to|rename from|rename to|rename old|rename new|similarity index|dissimilarity index|index) (.*)$/;

/** Throws RpcError `invalid_params` with the line at fault. */
export function readPatch(patch: string): PatchedFile[] {
  if (patch.includes('\0')) throw patchIssue('must not contain NUL');
  const lines = patch.split('\n');
  if (lines.at(-1) === '') lines.pop();
  /** A line of a header; patches that were kept on Windows end theirs with CR, too. */
  const headerAt = (index: number): string => (lines[index] ?? '').replace(/\r$/, '');
  const files: PatchedFile[] = [];
  let at = 0;
  while (at < lines.length) {
    const line = headerAt(at);
    if (line.startsWith('diff --git ')) readFile(line);
    else if (isPlainHeader(at)) readFile(undefined);
    else if (HUNK.test(line)) throw patchIssue('a hunk stands without a file', at);
    else if (line.startsWith('GIT binary patch') || /^Binary files .* differ$/.test(line)) throw binary(at);
    // Mail headers, commit messages, `Index:` lines: git skips them as well.
    else at++;
    if (files.length > PATCH_FILES_MAX) throw patchIssue(`must not touch more than ${PATCH_FILES_MAX} files`);
  }
  if (files.length === 0) throw patchIssue('has no changes: a unified or git patch is needed');
  return files;

  function isPlainHeader(index: number): boolean {
    return (
      (lines[index] ?? '').startsWith('--- ') &&
      (lines[index + 1] ?? '').startsWith('+++ ') &&
      HUNK.test(lines[index + 2] ?? '')
    );
  }

  /** One file: the lines of its header, then its hunks. */
  function readFile(gitLine: string | undefined): void {
    const startedAt = at;
    const header = new Map<string, string>();
    if (gitLine !== undefined) at++;
    for (; at < lines.length; at++) {
      const [, name, value] = HEADER.exec(headerAt(at)) ?? [];
      if (name === undefined || value === undefined || gitLine === undefined) break;
      header.set(name, value);
    }
    checkModes(header, startedAt);
    const line = headerAt(at);
    if (line.startsWith('GIT binary patch') || /^Binary files .* differ$/.test(line)) throw binary(at);
    const names = readNames(gitLine, header, startedAt);
    const counted = readHunks();
    const isEmpty = counted.hunks.length === 0;
    if (isEmpty && gitLine !== undefined && header.size === 0) throw patchIssue('a file has no changes', startedAt);
    files.push({ ...names, ...counted });
  }

  function readNames(gitLine: string | undefined, header: ReadonlyMap<string, string>, startedAt: number) {
    let before: string | undefined;
    let after: string | undefined;
    if (isPlainHeader(at)) {
      before = stripPrefix(readName(headerAt(at).slice(4), at), at);
      after = stripPrefix(readName(headerAt(at + 1).slice(4), at + 1), at + 1);
      at += 2;
      if (before === undefined && after === undefined) throw patchIssue('a file has no name', at);
    }
    const from = header.get('rename from') ?? header.get('rename old') ?? header.get('copy from');
    const to = header.get('rename to') ?? header.get('rename new') ?? header.get('copy to');
    if (from !== undefined || to !== undefined) {
      const oldPath = stripPrefix(`a/${readName(from ?? '', startedAt)}`, startedAt);
      const path = stripPrefix(`b/${readName(to ?? '', startedAt)}`, startedAt);
      if (oldPath === undefined || path === undefined) throw patchIssue('a file has no name', startedAt);
      return { path, oldPath, change: header.has('copy from') ? ('copied' as const) : ('renamed' as const) };
    }
    const named = gitLine === undefined ? undefined : sameName(gitLine, startedAt);
    const path = after ?? before ?? named;
    if (path === undefined) throw patchIssue('the name of the file cannot be told', startedAt);
    const isAdded = header.has('new file mode') || (after !== undefined && before === undefined);
    const isDeleted = header.has('deleted file mode') || (after === undefined && before !== undefined);
    if (!isAdded && !isDeleted && before !== after) throw patchIssue('a file has two names', startedAt);
    if (named !== undefined && named !== path) throw patchIssue('a file has two names', startedAt);
    const change = isAdded ? ('added' as const) : isDeleted ? ('deleted' as const) : ('modified' as const);
    return { path, oldPath: undefined, change };
  }

  /** Lines of a change after a hunk's last: git would leave them out and say nothing. `-- ` is a mail's signature. */
  function hasMore(): boolean {
    let next = at;
    while (headerAt(next) === '' && next < lines.length) next++;
    return /^[-+ ]/.test(headerAt(next)) && headerAt(next).trimEnd() !== '--' && !isPlainHeader(next);
  }

  function readHunks() {
    const hunks: number[] = [];
    let additions = 0;
    let deletions = 0;
    for (let match = HUNK.exec(lines[at] ?? ''); match !== null; match = HUNK.exec(lines[at] ?? '')) {
      const startedAt = at++;
      let oldLeft = Number(match[2] ?? 1);
      let newLeft = Number(match[4] ?? 1);
      hunks.push(Number(match[1]));
      while (oldLeft > 0 || newLeft > 0) {
        const kind = at < lines.length ? (lines[at] ?? '').charAt(0) : 'end';
        if (kind === '-') {
          oldLeft--;
          deletions++;
        } else if (kind === '+') {
          newLeft--;
          additions++;
        } else if (kind === ' ' || kind === '') {
          oldLeft--;
          newLeft--;
        } else if (kind !== '\\')
          throw patchIssue(`hunk ${hunks.length} does not have the lines it announces`, startedAt);
        if (oldLeft < 0 || newLeft < 0)
          throw patchIssue(`hunk ${hunks.length} has more lines than it announces`, startedAt);
        at++;
      }
      if ((lines[at] ?? '').startsWith('\\')) at++;
    }
    if (hunks.length > 0 && hasMore()) throw patchIssue(`hunk ${hunks.length} has more lines than it announces`, at);
    return { hunks, additions, deletions };
  }
}

function checkModes(header: ReadonlyMap<string, string>, at: number): void {
  const modes = ['old mode', 'new mode', 'deleted file mode', 'new file mode'].map((name) => header.get(name));
  modes.push(/ (\d+)$/.exec(header.get('index') ?? '')?.[1]);
  for (const mode of modes) {
    if (mode === undefined || mode === '100644' || mode === '100755') continue;
    if (mode === '120000') throw patchIssue('must not touch symbolic links', at);
    if (mode === '160000') throw patchIssue('must not touch submodules', at);
    throw patchIssue('has a file mode other than 100644 and 100755', at);
  }
}

/** `diff --git a/NAME b/NAME`: both names are the same when nothing else tells them; undefined when they are not. */
function sameName(line: string, at: number): string | undefined {
  const rest = line.slice('diff --git '.length);
  if (rest.startsWith('"')) {
    const end = /^"(?:[^"\\]|\\.)*"/.exec(rest)?.[0] ?? '';
    const one = stripPrefix(readName(end, at), at);
    return one === stripPrefix(readName(rest.slice(end.length + 1), at), at) ? one : undefined;
  }
  const middle = (rest.length - 1) / 2;
  if (!Number.isInteger(middle) || rest[middle] !== ' ') return undefined;
  const one = stripPrefix(readName(rest.slice(0, middle), at), at);
  return one === stripPrefix(readName(rest.slice(middle + 1), at), at) ? one : undefined;
}

function binary(at: number) {
  return patchIssue('has binary changes, which are not supported: only text can be patched', at);
}
