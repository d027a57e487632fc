// Runs git in the sandbox to parse the file names in a patch; this changes no file. Decides how many leading path
// components are stripped: none (`-p0`) where the names are complete paths of existing files, else what `git apply`
// strips by default.

import type { RunResult } from '../sandbox/commands.ts';
import { patchIssue } from './patch-issue.ts';
import { checkPath } from './patch-names.ts';
import type { PatchSection } from './patch-section.ts';

/** A section with the file names that git parsed from it. */
export interface NamedSection extends PatchSection {
  /** Relative to the repository; for a deleted file its old path. */
  readonly path: string;
  /** The same as `path`, unless the file is renamed or copied. */
  readonly oldPath: string;
}

export interface Reading {
  /** Option for `git apply`: `-p0`, or empty for its default. */
  readonly strip: '' | '-p0';
  readonly files: readonly NamedSection[];
}

/** Runs a shell script in the repository, inside the sandbox. */
export type RunScript = (script: string, args: readonly string[], stdin: string) => Promise<RunResult>;

/** Exit codes of the scripts, apart from git's own. */
export const STEP = { read: 91, check: 92, write: 93, directory: 94 } as const;

/**
 * Start of every script: checks the repository, stores the patch from stdin in a file in memory, and defines the
 * functions `apply` and `refuse`. The first argument is the option `strip`.
 */
export const PRELUDE = `
patch=/dev/shm/patch.$$
trap 'rm -f -- "$patch"' EXIT
here=$(pwd -P)
export LC_ALL=C GIT_CEILING_DIRECTORIES="\${here%/*}" GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null
refuse() { echo "error: $1" >&2; exit "$2"; }
case "$here/" in */.git/*) refuse "is inside .git" ${STEP.directory} ;; esac
[ -w . ] || refuse "cannot be written to" ${STEP.directory}
strip=$1; shift
cat > "$patch" || exit ${STEP.read}
apply() { git -c core.fsmonitor=false -c core.quotePath=false apply $strip --whitespace=nowarn "$@" "$patch"; }
`;

/** Prints the new names with line counts, an empty record, then the old names: those of the reversed patch. */
const READ = `${PRELUDE}
apply --numstat -z || exit ${STEP.read}
printf '\\0'
apply --numstat -z -R || exit ${STEP.read}
`;

const ALL_EXIST = 'cat > /dev/null; for path in "$@"; do [ -e "./$path" ] || [ -L "./$path" ] || exit 1; done';

/**
 * Throws RpcError `invalid_params` for file names that are not allowed, and for a patch that git cannot parse or parses
 * differently from patch-text.ts.
 */
export async function readNames(run: RunScript, sections: readonly PatchSection[], patch: string): Promise<Reading> {
  const read = async (strip: Reading['strip']): Promise<Reading | RunResult> => {
    const result = await run(READ, [strip], patch);
    return result.exitCode === 0 ? { strip, files: toFiles(sections, result.stdout.toString('utf8')) } : result;
  };
  const hasWhole = sections.some(({ names }) => names === 'whole');
  const mayBeWhole = sections.every(({ names }) => names !== 'prefixed');
  const whole = mayBeWhole ? await read('-p0') : undefined;
  if (whole !== undefined && 'files' in whole && (await areNamesComplete(run, whole.files, hasWhole)))
    return checked(whole);
  const chosen = await read('');
  if ('files' in chosen) return checked(chosen);
  if (hasWhole && whole !== undefined && 'files' in whole) return checked(whole);
  throw patchIssue(`cannot be read: ${firstError(chosen.stderr.toString('utf8'))}`);
}

/** The first error message in git's output. */
export function firstError(output: string): string {
  const line = output.split('\n').find((text) => /^(error|fatal): /.test(text)) ?? output.split('\n', 1)[0] ?? '';
  return line.replace(/^(error|fatal): /, '').slice(0, 300);
}

/**
 * Whether the names are complete paths, as `git diff --no-prefix`, Subversion and others write them. They are when all
 * files that must exist do exist under their names. A patch that only adds files proves nothing that way; there, names
 * that begin with `a/` or `b/` have prefixes. `hasWhole`: a section has two equal names, so at least that one has no
 * prefix. Without such a section, only a plain deletion (`--- src/x`, `+++ /dev/null`) is checked: with the default
 * option, git would strip `src/` and delete another file.
 */
async function areNamesComplete(run: RunScript, files: readonly NamedSection[], hasWhole: boolean): Promise<boolean> {
  const old = files.filter(({ needsOld }) => needsOld).map(({ oldPath }) => oldPath);
  if (!hasWhole && (old.length === 0 || old.some((path) => path.startsWith('a/')))) return false;
  if (old.length === 0) return !files.every(({ path }) => /^[ab]\//.test(path));
  return (await run(ALL_EXIST, old, '')).exitCode === 0;
}

function checked(reading: Reading): Reading {
  for (const { path, oldPath, move } of reading.files) {
    checkPath(path);
    checkPath(oldPath);
    // Without a rename or copy header, git would replace one file with the other without reading it.
    if (path !== oldPath && move === undefined) throw patchIssue('a file has two names');
  }
  return reading;
}

/**
 * Parses git's records (`additions TAB deletions TAB path NUL`) and checks the counts of each against its section. For
 * a reversed patch, git since 2.30 lists the files from the last to the first, and earlier versions from the first to
 * the last; the order with fewer changed names is taken.
 */
function toFiles(sections: readonly PatchSection[], numstat: string): NamedSection[] {
  const records = numstat.split('\0');
  const middle = records.indexOf('');
  const paths = toPaths(sections, records.slice(0, middle), ({ additions, deletions }) => [additions, deletions]);
  const oldRecords = records.slice(middle + 1, -1);
  const oldPaths = [oldRecords.toReversed(), oldRecords]
    .map((list) => toPaths(sections, list, ({ additions, deletions }) => [deletions, additions]))
    .filter((list) => list !== undefined)
    .sort((one, two) => countChanged(paths, one) - countChanged(paths, two))[0];
  if (paths === undefined || oldPaths === undefined) throw patchIssue('is parsed differently by git');
  return sections.map((section, index) => ({ ...section, path: paths[index] ?? '', oldPath: oldPaths[index] ?? '' }));
}

function toPaths(
  sections: readonly PatchSection[],
  records: readonly string[],
  countsOf: (section: PatchSection) => readonly [number, number],
): string[] | undefined {
  if (records.length !== sections.length) return undefined;
  const counts = sections.map((section) => (section.isBinary ? '-\t-\t' : `${countsOf(section).join('\t')}\t`));
  const isSame = records.every((record, index) => record.startsWith(counts[index] ?? ''));
  return isSame ? records.map((record, index) => record.slice(counts[index]?.length)) : undefined;
}

function countChanged(paths: readonly string[] | undefined, oldPaths: readonly string[]): number {
  return oldPaths.filter((path, index) => path !== paths?.[index]).length;
}
