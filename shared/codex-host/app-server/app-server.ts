// Starts and ends the app-server of one owner, with its directory and its network access (exit.ts).
import { randomUUID } from 'node:crypto';
import { chmod, mkdir, mkdtemp, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join, relative, resolve } from 'node:path';
import type { Readable } from 'node:stream';
import { orAbort } from '../../async.ts';
import { codeOf, RpcError } from '../../errors.ts';
import { makeDirectory } from '../../make-directory.ts';
import { sandboxUnavailable } from '../../sandbox/commands.ts';
import { runPrefix } from '../../sandbox/workspace/run-mark.ts';
import type { CodexBinary } from '../binary.ts';
import { CODEX_HOME } from '../codex-host.ts';
import { COMMAND_FILTER, type Launched, type Launcher } from '../launcher.ts';
import { CATALOG_FILE, HIDDEN_TMP, PROGRAMS, TOOLS, toConfigToml } from './config-toml.ts';
import { PREFIXES } from './directories.ts';
import { EXIT_PORT, type Exit, openExit } from './exit.ts';
import { initialize } from './initialize.ts';

export interface AppServerOptions {
  readonly launcher: Launcher;
  readonly binary: CodexBinary;
  readonly owner: string;
  /** Directory of the machine for the home of the app-server, which is removed when it ends. */
  readonly directory: string;
  /** Returns the catalogue of models. `home`: as for `makeModelCatalog`. */
  readonly catalog: (home: string) => Promise<string>;
  /** Adds files to its home before it starts. */
  readonly fill?: ((home: string) => Promise<void>) | undefined;
  /** Copies files from its home after it has ended. */
  readonly keep?: (home: string) => Promise<void>;
}

export interface AppServer extends Pick<Launched, 'pid' | 'stdin' | 'stdout' | 'stderr'> {
  /** A random id of this app-server. */
  readonly id: string;
  /** Path of CODEX_HOME on this machine. */
  readonly home: string;
  readonly exit: Pick<Exit, 'onRequest'>;
  /** Resolves when the process has ended and its home is removed. Never rejects. */
  readonly gone: Promise<void>;
  /** Ends the app-server. Resolves when `gone` does. */
  end(): Promise<void>;
}

const START_TIMEOUT_MS = 30_000;
const GRACE_MS = 500;
const STDERR_CHARS_MAX = 2_000;

/**
 * Throws the errors of the launcher, RpcError `unavailable` if Codex does not start, or `sandbox_unavailable` if it
 * cannot reach its provider.
 */
export async function startAppServer(options: AppServerOptions): Promise<AppServer> {
  const { launcher, binary, owner, directory, catalog, fill, keep } = options;
  await makeDirectory(directory, 0o700);
  const home = await mkdtemp(join(directory, runPrefix(PREFIXES.home)));
  let child: Launched | undefined;
  try {
    const models = await catalog(home).catch((error: unknown) => {
      throw notStarted(error);
    });
    await writeFile(join(home, CATALOG_FILE), models);
    const tools = await writeTools(directory, binary);
    await writeFile(join(home, 'config.toml'), toConfigToml(`http://127.0.0.1:${EXIT_PORT}`));
    // All users may write here, because the app-server may run under another uid than the gateway. The parent directory
    // is closed to other users.
    await chmod(home, 0o777);
    // Codex watches the directory of skills. If it does not exist, Codex watches the parent directory, to which it
    // writes itself.
    await mkdir(join(home, 'skills'));
    await fill?.(home);
    child = await launcher.spawn({
      keyId: owner,
      argv: [inside(binary), 'app-server', '--strict-config'],
      // PATH contains no program of the machine, in particular not git: Codex would run git in a directory of the
      // caller, and git would run the programs named in the git configuration there.
      env: {
        CODEX_HOME,
        TMPDIR: HIDDEN_TMP,
        PATH: `${TOOLS}:${PROGRAMS}/codex-path`,
        RUST_LOG: 'off',
        // The connection to the provider has no TLS. Without this variable, Codex would read all certificates of the
        // machine in every turn.
        SSL_CERT_FILE: '/dev/null',
      },
      readOnly: [
        { from: binary.directory, to: PROGRAMS },
        { from: tools, to: TOOLS },
      ],
      writable: { from: home, to: CODEX_HOME },
      listenPort: EXIT_PORT,
      nested: true,
    });
    return await complete(child, home, keep);
  } catch (error) {
    await child?.kill(0);
    await rm(home, { recursive: true, force: true });
    throw error;
  }
}

/**
 * Creates the directory of the machine that is mounted as TOOLS for all app-servers. It contains links to Codex, under
 * whose names Codex runs itself in its sandbox. (By default, Codex creates them below CODEX_HOME, which commands cannot
 * access.) It also contains a `bwrap`, which Codex prefers to its own.
 */
async function writeTools(directory: string, binary: CodexBinary): Promise<string> {
  const tools = resolve(directory, 'tools');
  await makeDirectory(tools, 0o755);
  for (const name of ['codex-linux-sandbox', 'apply_patch', 'applypatch']) {
    await symlink(inside(binary), join(tools, name)).catch((error: unknown) => {
      if (codeOf(error) !== 'EEXIST') throw error;
    });
  }
  const file = join(tools, 'bwrap');
  const present = await readFile(file, 'utf8').catch(() => undefined);
  if (present === BWRAP) return tools;
  // Replaced atomically, because another app-server may be executing it.
  const made = `${file}-${randomUUID()}`;
  await writeFile(made, BWRAP, { mode: 0o755 });
  await rename(made, file);
  return tools;
}

/**
 * Runs Codex's bwrap with two additions: the system call filter of the gateway, and a read-only /proc, in which a
 * command cannot lower its out-of-memory score. Fails if the filter does not exist.
 */
const BWRAP = `#!/bin/sh
exec 9< ${COMMAND_FILTER} || exit 1
for word do
  shift
  set -- "$@" "$word"
  [ "$before" = --proc ] && [ -z "$isCommand" ] && set -- "$@" --remount-ro "$word"
  [ "$word" = -- ] && isCommand=yes
  before=$word
done
exec ${PROGRAMS}/codex-resources/bwrap --seccomp 9 "$@"
`;

/** Returns the path of the program in the sandbox. */
function inside({ file, directory }: CodexBinary): string {
  return join(PROGRAMS, relative(directory, file));
}

/** Waits concurrently for the handshake and for the listener, which is ready long before Codex. */
async function complete(child: Launched, home: string, keep: AppServerOptions['keep']): Promise<AppServer> {
  const signal = AbortSignal.timeout(START_TIMEOUT_MS);
  const stderrTail = collectTail(child.stderr);
  const [answered, listener] = await Promise.allSettled([
    initialize(child, signal),
    orAbort(child.listener ?? Promise.reject(new Error('the sandbox returned no listener')), signal),
  ]);
  if (answered.status === 'rejected') {
    if (listener.status === 'fulfilled') listener.value.close();
    await child.kill(0);
    throw notStarted(new Error(`codex app-server did not start: ${stderrTail()}`, { cause: answered.reason }));
  }
  stderrTail();
  if (listener.status === 'rejected') throw noExit(listener.reason);
  const exit = openExit(listener.value);
  const gone = child.exited.then(async () => {
    exit.close();
    await keep?.(home).catch(() => undefined);
    await rm(home, { recursive: true, force: true }).catch(() => undefined);
  });
  const { pid, stdin, stdout, stderr } = child;
  return {
    ...{ id: randomUUID(), pid, stdin, stdout, stderr, home, exit, gone },
    async end() {
      await child.kill(GRACE_MS);
      await gone;
    },
  };
}

/** Reads the stream until the returned function is called, which returns the end of what was read. */
function collectTail(stream: Readable): () => string {
  let tail = '';
  const read = (): void => {
    for (let bytes: Buffer | null = stream.read(); bytes !== null; bytes = stream.read())
      tail = (tail + bytes.toString('latin1')).slice(-STDERR_CHARS_MAX);
  };
  stream.on('readable', read);
  return () => {
    stream.off('readable', read);
    return tail;
  };
}

function notStarted(cause: unknown): RpcError {
  return new RpcError('unavailable', { message: 'Codex did not start', retryAfterMs: 5_000, cause });
}

function noExit(cause: unknown): RpcError {
  const reason = 'the gateway cannot listen in a sandbox, which Codex needs to reach its provider';
  const hint = `the program ${process.execPath} must be able to run in a sandbox`;
  const { message, data } = sandboxUnavailable({ ok: false, reason, hint });
  return new RpcError('sandbox_unavailable', { message, data, cause });
}
