// One app-server of one key: its directory, its start, its threads and its end.
import { randomUUID } from 'node:crypto';
import { chmod, mkdir, mkdtemp, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join, relative, resolve } from 'node:path';
import { RpcError } from '../../../errors.ts';
import { makeDirectory } from '../../../make-directory.ts';
import { VERSION } from '../../../version.ts';
import type { CodexBinary } from './binary.ts';
import { type CodexClient, createCodexClient } from './client.ts';
import { CODEX_HOME, type ConfigOptions, HIDDEN_TMP, PROGRAMS, TOOLS, toConfigToml } from './config-toml.ts';
import { COMMAND_FILTER, type Launched, type Launcher } from './launcher.ts';
import { UNWANTED } from './protocol.ts';

export interface AppServerOptions {
  readonly launcher: Launcher;
  readonly binary: CodexBinary;
  readonly keyId: string;
  /** Directory of the machine in which the app-server gets its own, which is removed when it ends. */
  readonly directory: string;
  readonly baseUrls: ConfigOptions['baseUrls'];
  /** Fills its home before it starts. */
  readonly fill?: ((home: string) => Promise<void>) | undefined;
  /** Copies files out of its home when it has ended. */
  readonly keep?: (home: string) => Promise<void>;
}

/** What the thread of a conversation holds, as of its last turn. */
export interface KnownThread {
  readonly threadId: string;
  /** File of the thread on this machine; undefined: Codex keeps none. */
  readonly file: string | undefined;
  /** The last message of the conversation that is in the thread: its number, and a hash of it. */
  readonly seq: number;
  readonly hash: string;
  /** Hash of the instructions that hold in the thread; empty: none. */
  readonly instructions: string;
  /** Hash of the tools that the thread was started with; empty: none. */
  readonly tools: string;
}

/** A thread that an app-server has loaded, with the account of its calls to the provider. */
export interface LoadedThread {
  readonly known: KnownThread;
  readonly accountId: string;
  /** The model of turns that name none; undefined: unknown. */
  readonly modelId: string | undefined;
}

export interface AppServer {
  readonly pid: number;
  readonly client: CodexClient;
  /** Where CODEX_HOME is on this machine. */
  readonly home: string;
  /** By conversation id. */
  readonly threads: Map<string, LoadedThread>;
  /** Resolves with the tail of stderr when the process has ended and its directory is removed. */
  readonly gone: Promise<string>;
  /** Ends it; resolves as `gone` does. */
  end(): Promise<string>;
}

const START_TIMEOUT_MS = 30_000;
const GRACE_MS = 500;

/** Throws what the launcher throws, or RpcError `unavailable` when Codex does not start. */
export async function startAppServer(options: AppServerOptions): Promise<AppServer> {
  const { launcher, binary, keyId, directory, baseUrls, fill, keep } = options;
  await makeDirectory(directory, 0o700);
  const home = await mkdtemp(join(directory, 'home-'));
  let child: Launched | undefined;
  try {
    const tools = await writeTools(directory, binary);
    await writeFile(join(home, 'config.toml'), toConfigToml({ baseUrls }));
    // The app-server may run under another uid than the gateway; the directory above keeps other users out.
    await chmod(home, 0o777);
    // Codex watches the directory of skills. Where it is missing, Codex watches its parent, to which it writes itself.
    await mkdir(join(home, 'skills'));
    await fill?.(home);
    child = await launcher.spawn({
      keyId,
      argv: [inside(binary), 'app-server', '--strict-config'],
      // No program of the machine is in PATH: Codex runs git in a directory of the caller, and git runs the programs
      // that its config there names.
      env: {
        CODEX_HOME,
        TMPDIR: HIDDEN_TMP,
        PATH: `${TOOLS}:${PROGRAMS}/codex-path`,
        RUST_LOG: 'off',
        // The relay uses no TLS: without this, Codex reads all certificates of the machine in every turn.
        SSL_CERT_FILE: '/dev/null',
      },
      readOnly: [
        { from: binary.directory, to: PROGRAMS },
        { from: tools, to: TOOLS },
      ],
      writable: { from: home, to: CODEX_HOME },
      network: true,
      nested: true,
    });
    return await initialize(child, home, keep);
  } catch (error) {
    await child?.kill(0);
    await rm(home, { recursive: true, force: true });
    throw error;
  }
}

/**
 * The directory of the machine that is mounted as TOOLS, shared by all app-servers. Codex runs itself under the links'
 * names inside its sandbox; by default it creates them below CODEX_HOME, which is hidden from commands. It prefers a
 * `bwrap` in its PATH to its own.
 */
async function writeTools(directory: string, binary: CodexBinary): Promise<string> {
  const tools = resolve(directory, 'tools');
  await makeDirectory(tools, 0o755);
  for (const name of ['codex-linux-sandbox', 'apply_patch', 'applypatch']) {
    await symlink(inside(binary), join(tools, name)).catch((error: unknown) => {
      if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
    });
  }
  const file = join(tools, 'bwrap');
  const present = await readFile(file, 'utf8').catch(() => undefined);
  if (present === BWRAP) return tools;
  // Replaced atomically: another app-server may be starting it.
  const made = `${file}-${randomUUID()}`;
  await writeFile(made, BWRAP, { mode: 0o755 });
  await rename(made, file);
  return tools;
}

/**
 * Codex's bwrap, with what its own call leaves out: the system call filter of the gateway, and a /proc in which a
 * command cannot lower its out-of-memory score. Refuses to run without the filter.
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

/** The path of the program inside the sandbox. */
function inside({ file, directory }: CodexBinary): string {
  return join(PROGRAMS, relative(directory, file));
}

async function initialize(child: Launched, home: string, keep: AppServerOptions['keep']): Promise<AppServer> {
  const client = createCodexClient(child);
  try {
    await client.request(
      'initialize',
      {
        clientInfo: { name: 'codex-gateway', title: null, version: VERSION },
        capabilities: { experimentalApi: true, requestAttestation: false, optOutNotificationMethods: [...UNWANTED] },
      },
      AbortSignal.timeout(START_TIMEOUT_MS),
    );
  } catch (error) {
    await child.kill(0);
    const cause = new Error(`codex app-server did not start: ${await client.closed}`, { cause: error });
    throw new RpcError('unavailable', { message: 'Codex did not start', retryAfterMs: 5_000, cause });
  }
  client.initialized();
  const gone = client.closed.then(async (stderrTail) => {
    await child.kill(GRACE_MS);
    await keep?.(home).catch(() => undefined);
    await rm(home, { recursive: true, force: true });
    return stderrTail;
  });
  return {
    pid: child.pid,
    client,
    home,
    threads: new Map(),
    gone,
    async end() {
      await child.kill(GRACE_MS);
      return gone;
    },
  };
}
