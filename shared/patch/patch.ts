// Applies a patch to a directory of the workspace with `git apply` inside the sandbox: all of its files or none.
import { RpcError } from '../errors.ts';
import type { Commands, RunResult } from '../sandbox/commands.ts';
import { firstError, type NamedSection, PRELUDE, type RunScript, readNames, STEP } from './patch-reading.ts';
import { readPatch } from './patch-text.ts';

export interface PatchedFile {
  /** Relative to the repository; for a deleted file its old path. */
  readonly path: string;
  /** The path from which the file is renamed or copied. */
  readonly oldPath: string | undefined;
  readonly change: 'added' | 'modified' | 'deleted' | 'renamed' | 'copied';
  /** Added lines; 0 for a binary file. */
  readonly additions: number;
  readonly deletions: number;
}

export interface PatchRequest {
  readonly keyId: string;
  readonly patch: string;
  /** Absolute, inside the sandbox; need not be a git repository. */
  readonly directory: string;
  readonly dryRun: boolean;
  readonly signal: AbortSignal;
}

const TIMEOUT_MS = 60_000;
const OUTPUT_BYTES_MAX = 1 << 20;
const STDERR_CHARS_MAX = 2000;

/** How programs report a full disk with LC_ALL=C. */
const DISK_FULL = /No space left on device|Disk quota exceeded|File size limit exceeded/;

/**
 * Reads the patch from stdin. Arguments: the option `strip`, `1` for a dry run, then every path that the patch changes.
 * The old files are kept as hard links until the new ones are written, so that a failure half-way can be undone without
 * free disk space. (Git never overwrites a file, it creates a new one.)
 */
const SCRIPT = `${PRELUDE}
dry=$1; shift
apply --check --summary || exit ${STEP.check}
# Git detects a directory in the place of a file only when it writes.
for path in "$@"; do
  # A directory that this patch empties can become a file.
  for other in "$@"; do case "$other" in "$path"/*) continue 2 ;; esac; done
  [ -d "$path" ] && [ ! -L "$path" ] && [ -n "$(ls -A -- "$path")" ] && refuse "$path: is a directory" ${STEP.check}
done
[ "$dry" = 1 ] && exit 0
kept=$(mktemp -d "$here/.apply-XXXXXXXX") || exit ${STEP.write}
undo() {
  trap '' TERM
  rm -f -- "$@"
  number=0
  for path in "$@"; do
    number=$((number + 1))
    case "$path" in */*) directory=\${path%/*} ;; *) directory=. ;; esac
    if [ -f "$kept/$number" ]; then mkdir -p -- "$directory" && mv -f -- "$kept/$number" "$path"
    else rmdir -p --ignore-fail-on-non-empty -- "$directory" 2>/dev/null
    fi
  done
  rm -rf -- "$kept"
}
number=0
for path in "$@"; do
  number=$((number + 1))
  [ -L "$path" ] || [ ! -f "$path" ] || ln -P -- "$path" "$kept/$number" || { rm -rf -- "$kept"; exit ${STEP.write}; }
done
trap 'undo "$@"; exit ${STEP.write}' TERM
apply || { undo "$@"; exit ${STEP.write}; }
trap '' TERM
rm -rf -- "$kept"
`;

/**
 * Throws RpcError `invalid_params` for a patch that is not allowed or a directory that does not exist, `patch_failed`
 * (data.file, data.hunk, data.line) for a patch that does not match the files or that git would apply only in part.
 * After an error, no file is changed.
 */
export async function applyPatch(
  commands: Pick<Commands, 'run'>,
  request: PatchRequest,
): Promise<readonly PatchedFile[]> {
  const sections = readPatch(request.patch);
  const text = request.patch.endsWith('\n') ? request.patch : `${request.patch}\n`;
  const run: RunScript = (script, args, stdin) => runScript(commands, request, script, args, stdin);
  const { strip, files } = await readNames(run, sections, text);
  const paths = new Set(files.flatMap(({ path, oldPath }) => [path, oldPath]));
  const result = await run(SCRIPT, [strip, request.dryRun ? '1' : '0', ...paths], text);
  const output = stderrOf(result);
  if (result.exitCode !== 0) {
    throw result.isFull || DISK_FULL.test(output) ? diskFull(files, output) : failed(files, output);
  }
  return toPatched(files, result.stdout.toString('utf8'));
}

async function runScript(
  commands: Pick<Commands, 'run'>,
  request: PatchRequest,
  script: string,
  args: readonly string[],
  stdin: string,
): Promise<RunResult> {
  const { keyId, directory, signal } = request;
  const argv = ['/bin/sh', '-c', script, 'apply', ...args] as const;
  const options = { signal, timeoutMs: TIMEOUT_MS, stdin, outputBytesMax: OUTPUT_BYTES_MAX };
  const result = await commands.run({ keyId, argv, cwd: directory }, options).catch((error: unknown) => {
    const isDirectory = error instanceof RpcError && error.reason === 'invalid_params';
    throw isDirectory ? repoIssue(directory, 'is not a directory of the workspace') : error;
  });
  const output = stderrOf(result);
  if (result.exitCode === 127 && output.includes('git')) {
    throw new RpcError('sandbox_unavailable', {
      message: 'Sandbox unavailable: git is not installed',
      data: { disabled_by: 'deployment', hint: 'install it: apt-get install git' },
    });
  }
  if (result.exitCode === STEP.directory) throw repoIssue(directory, firstError(output));
  // In a full workspace, even storing the patch fails.
  if (result.isFull && DISK_FULL.test(output)) throw diskFull([], output);
  if (result.timedOut) throw new RpcError('patch_failed', { message: 'Patch took too long; nothing was changed' });
  return result;
}

function stderrOf({ stderr }: RunResult): string {
  return stderr.toString('utf8').slice(0, STDERR_CHARS_MAX);
}

function repoIssue(directory: string, what: string): RpcError {
  const issues = [{ path: 'repo_path', message: `${directory} ${what}` }];
  return new RpcError('invalid_params', { data: { issues } });
}

/**
 * Reads git's summary, whose lines are in the order of the files: ` create mode 100644 PATH`, ` delete mode 100644
 * PATH`.
 */
function toPatched(files: readonly NamedSection[], summary: string): PatchedFile[] {
  const lines = [...summary.matchAll(/^ (create|delete) (?:mode \d+ )?(.*)$/gm)];
  let next = 0;
  return files.map(({ path, oldPath, move, additions, deletions }) => {
    const [, kind, name] = lines[next] ?? [];
    const isNamed = kind !== undefined && name === path;
    if (isNamed) next++;
    const change = isNamed ? (kind === 'create' ? 'added' : 'deleted') : (move ?? 'modified');
    return { path, oldPath: path === oldPath ? undefined : oldPath, change, additions, deletions };
  });
}

/**
 * Parses git's error: `error: patch failed: src/x.ts:12`, or `error: src/x.ts: already exists in working directory`.
 */
function failed(files: readonly NamedSection[], output: string): RpcError {
  const [, hunkPath, lineText] = /^error: patch failed: (.*):(\d+)$/m.exec(output) ?? [];
  const first = firstError(output).replace(
    /(?<=without full index line)$/,
    ' (create the patch with git diff --binary)',
  );
  if (hunkPath !== undefined) {
    const line = Number(lineText);
    const file = files.find(({ path, oldPath }) => path === hunkPath || oldPath === hunkPath);
    const hunk = (file?.hunks.indexOf(line) ?? -1) + 1;
    const at = hunk > 0 ? `hunk ${hunk}` : `line ${line}`;
    return new RpcError('patch_failed', {
      message: `Patch does not apply: ${hunkPath}, ${at}`,
      data: { file: hunkPath, ...(hunk > 0 && { hunk }), line },
    });
  }
  // The whole file conflicts or is missing, so already its first hunk does not apply.
  const names = files.flatMap(({ path, oldPath, hunks }) => [path, oldPath].map((name) => ({ name, hunks })));
  const file =
    names.find(({ name }) => first.startsWith(`${name}: `)) ?? names.find(({ name }) => first.includes(name));
  return new RpcError('patch_failed', {
    message: `Patch does not apply: ${first}`,
    ...(file && { data: { file: file.name, ...(file.hunks.length > 0 && { hunk: 1 }) } }),
  });
}

function diskFull(files: readonly NamedSection[], output: string): RpcError {
  const file = files.find(({ path }) => output.includes(path));
  return new RpcError('patch_failed', {
    message:
      'Patch not applied, nothing was changed: the disk of the workspace is full; delete something and apply it again',
    data: { disk_full: true, ...(file && { file: file.path }) },
    retryable: true,
  });
}
