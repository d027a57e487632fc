// Applies a patch that has been read to a directory of the workspace: `git apply` inside the sandbox, all or nothing.
import { RpcError } from '../errors.ts';
import { patchIssue } from './patch-issue.ts';
import { type PatchedFile, readPatch } from './patch-text.ts';
import type { RunResult, Sandbox } from './sandbox.ts';

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
const SAID_CHARS_MAX = 2000;

/** How programs say it with LC_ALL=C. */
const NO_ROOM = /No space left on device|Disk quota exceeded/;

/** Exit codes of the script below, apart from git's own. */
const STEP = { read: 91, check: 92, write: 93, directory: 94 } as const;

/**
 * The patch comes on stdin. Arguments: `1` for a dry run, then every path it touches. The old files are kept as hard links until the new
 * ones are written (git never writes into a file, it makes a new one), so that a failure half-way can be undone without needing room.
 */
const SCRIPT = `
dry=$1; shift
patch=/dev/shm/patch
here=$(pwd -P)
export LC_ALL=C GIT_CEILING_DIRECTORIES="\${here%/*}" GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null
refuse() { echo "error: $1" >&2; exit "$2"; }
case "$here/" in */.git/*) refuse "is inside .git" ${STEP.directory} ;; esac
[ -w . ] || refuse "cannot be written to" ${STEP.directory}
cat > "$patch" || exit ${STEP.read}
apply() { git -c core.fsmonitor=false -c core.quotePath=false apply -p1 --whitespace=nowarn "$@" "$patch"; }
apply --numstat -z || exit ${STEP.read}
apply --check || exit ${STEP.check}
# What git only finds when it writes.
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
 * Throws RpcError `invalid_params` for a patch that is refused or a directory that is not there, `patch_failed` (data.file, data.hunk,
 * data.line) for one that does not fit; then nothing has been written.
 */
export async function applyPatch(sandbox: Sandbox, request: PatchRequest): Promise<readonly PatchedFile[]> {
  const files = readPatch(request.patch);
  const paths = new Set(files.flatMap(({ path, oldPath }) => (oldPath === undefined ? [path] : [path, oldPath])));
  const text = request.patch.endsWith('\n') ? request.patch : `${request.patch}\n`;
  const result = await run(sandbox, request, text, [...paths]);
  const said = result.stderr.toString('utf8').slice(0, SAID_CHARS_MAX);
  if (result.exitCode === 127 && said.includes('git')) {
    throw new RpcError('sandbox_unavailable', {
      message: 'Sandbox unavailable: git is not installed',
      data: { hint: 'install it: apt-get install git' },
    });
  }
  if (result.isFull && result.exitCode !== 0) throw noRoom(files, said);
  if (result.exitCode === STEP.directory) throw repoIssue(request.directory, firstError(said));
  if (result.exitCode === STEP.read) throw patchIssue(`cannot be read: ${firstError(said)}`);
  if (!isSame(files, result.stdout.toString('utf8'))) throw patchIssue('is read differently by git');
  if (result.timedOut) throw new RpcError('patch_failed', { message: 'Patch took too long; nothing was changed' });
  if (result.exitCode !== 0) throw NO_ROOM.test(said) ? noRoom(files, said) : failed(files, said);
  return files;
}

async function run(sandbox: Sandbox, request: PatchRequest, text: string, paths: string[]): Promise<RunResult> {
  const { keyId, directory, dryRun, signal } = request;
  try {
    return await sandbox.run(
      { keyId, argv: ['/bin/sh', '-c', SCRIPT, 'apply', dryRun ? '1' : '0', ...paths], cwd: directory },
      { signal, timeoutMs: TIMEOUT_MS, stdin: text, outputBytesMax: OUTPUT_BYTES_MAX },
    );
  } catch (error) {
    const isDirectory = error instanceof RpcError && error.reason === 'invalid_params';
    if (!isDirectory) throw error;
    throw repoIssue(directory, 'is not a directory of the workspace');
  }
}

function repoIssue(directory: string, what: string): RpcError {
  const issues = [{ path: 'repo_path', message: `${directory} ${what}` }];
  return new RpcError('invalid_params', { data: { issues } });
}

/** Git's count of each file (`additions TAB deletions TAB path NUL`) against ours. */
function isSame(files: readonly PatchedFile[], numstat: string): boolean {
  const ours = files.map(({ path, additions, deletions }) => `${additions}\t${deletions}\t${path}\0`);
  return ours.join('') === numstat;
}

/** `error: patch failed: src/x.ts:12`, `error: src/x.ts: already exists in working directory`. */
function failed(files: readonly PatchedFile[], said: string): RpcError {
  const [, hunkPath, lineText] = /^error: patch failed: (.*):(\d+)$/m.exec(said) ?? [];
  const first = firstError(said);
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
  // The whole file is in the way, or missing: its first hunk already does not fit.
  const names = files.flatMap(({ path, oldPath, hunks }) => [path, oldPath ?? path].map((name) => ({ name, hunks })));
  const file =
    names.find(({ name }) => first.startsWith(`${name}: `)) ?? names.find(({ name }) => first.includes(name));
  return new RpcError('patch_failed', {
    message: `Patch does not apply: ${first}`,
    ...(file && { data: { file: file.name, ...(file.hunks.length > 0 && { hunk: 1 }) } }),
  });
}

function noRoom(files: readonly PatchedFile[], said: string): RpcError {
  const file = files.find(({ path }) => said.includes(path));
  return new RpcError('patch_failed', {
    message:
      'Patch not applied, nothing was changed: the disk of the workspace is full; delete something and apply it again',
    data: { disk_full: true, ...(file && { file: file.path }) },
    retryable: true,
  });
}

function firstError(said: string): string {
  const line = said.split('\n').find((text) => /^(error|fatal): /.test(text)) ?? said.split('\n', 1)[0] ?? '';
  return line.replace(/^(error|fatal): /, '').slice(0, 300);
}
