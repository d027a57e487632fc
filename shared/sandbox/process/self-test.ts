// Finds bubblewrap and tests, by running it, which form of the sandbox this machine supports. If none works, the result
// says what is missing.
import { constants } from 'node:fs';
import { access, lstat, readlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { delimiter, dirname, isAbsolute, join } from 'node:path';
import { text } from 'node:stream/consumers';
import type { Toolbox } from '../bwrap/bubblewrap-command.ts';
import { toLaunch } from '../bwrap/launch.ts';
import type { Availability } from '../commands.ts';
import { DEFAULT_LIMITS } from '../limits.ts';
import type { SandboxSpec } from '../sandbox.ts';
import { toSeccompFilter } from '../seccomp.ts';
import type { Spawner } from '../spawner/spawner.ts';
import { UID_INSIDE } from '../workspace/etc.ts';
import type { Workspaces } from '../workspace/workspaces.ts';
import { startProcess } from './sandbox-process.ts';

export type SelfTest = { readonly ok: true; readonly tools: Toolbox } | (Availability & { readonly ok: false });

const PROBE_MS = 10_000;
const TOOLS = ['/bin/sh', '/usr/bin/setsid'];
const ROOT_TOOLS = ['/usr/bin/setpriv', '/usr/bin/unshare'];
const SYSTEM = ['/usr', '/bin', '/sbin', '/lib', '/lib32', '/lib64', '/libx32'];

/**
 * Prints what `check` compares: the uid, the capabilities, whether the system call filter is set, the number of visible
 * processes, of network devices (only lo) and of descriptors (0 to 2 and the one that ls opens), and the out-of-memory
 * score before and after an attempt to lower it.
 */
const PROBE = `
  id -u
  while read -r name value; do case $name in CapEff: | Seccomp:) echo "$value" ;; esac; done < /proc/self/status
  ls /proc | grep -c "^[0-9]*$"
  grep -c : /proc/net/dev
  ls /proc/self/fd | wc -l
  read -r before < /proc/self/oom_score_adj
  { echo 0 > /proc/self/oom_score_adj; } 2>/dev/null
  read -r after < /proc/self/oom_score_adj
  echo "$before $after"
  touch "$HOME/.probe"`;

export interface SelfTestOptions {
  readonly workspaces: Workspaces;
  readonly spawner: Spawner;
  /** Directory of the workspaces. */
  readonly directory: string;
  readonly path: string;
  readonly bundled: boolean;
  readonly isRoot: boolean;
}

/** Takes some tens of milliseconds. Never throws. */
export async function selfTest(options: SelfTestOptions): Promise<SelfTest> {
  const { path, bundled, isRoot } = options;
  if (process.platform !== 'linux') {
    return {
      ok: false,
      reason: 'sandboxes need Linux',
      hint: 'run the gateway in a Linux container or virtual machine',
    };
  }
  for (const tool of isRoot ? [...TOOLS, ...ROOT_TOOLS] : TOOLS) {
    if (await isExecutable(tool)) continue;
    return { ok: false, reason: `${tool} is missing`, hint: 'install the packages util-linux and coreutils' };
  }
  const found = await findBubblewrap(path, bundled);
  if (found.length === 0) {
    return { ok: false, reason: 'bubblewrap is not installed', hint: 'install it: apt-get install bubblewrap' };
  }
  if (toSeccompFilter('command') === undefined) {
    const reason = `there is no system call filter for the processor ${process.arch}`;
    return { ok: false, reason, hint: 'run the gateway on x64 or arm64' };
  }
  const system = await describeSystem();
  let reason = '';
  for (const bwrap of found) {
    for (const form of isRoot ? ROOT_FORMS : FORMS) {
      const tools = { bwrap, isRoot, system, ...form };
      const failure = await probe(tools, options);
      if (failure === undefined) return { ok: true, tools };
      reason = failure;
    }
  }
  return {
    ok: false,
    reason: `bubblewrap cannot create a sandbox here: ${reason}`,
    hint:
      'allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, ' +
      'kernel.apparmor_restrict_unprivileged_userns=0; on Cloud Run the second generation environment; in a ' +
      'container a seccomp profile that allows them), and use a kernel with seccomp filters',
  };
}

type Form = Pick<Toolbox, 'ownUid' | 'disableUserNamespaces'>;

/**
 * The strongest form comes first. bubblewrap before 0.8 has no `--disable-userns`; there only the system call filter
 * refuses user namespaces.
 */
const FORMS: readonly Form[] = [
  { ownUid: false, disableUserNamespaces: true },
  { ownUid: false, disableUserNamespaces: false },
];
/**
 * The last form has no user namespace, for containers that forbid them or in which the key's uid cannot execute bwrap.
 */
const ROOT_FORMS: readonly Form[] = [
  { ownUid: true, disableUserNamespaces: true },
  { ownUid: true, disableUserNamespaces: false },
  { ownUid: false, disableUserNamespaces: false },
];

/**
 * Returns why sandboxes of this form do not work; undefined: they work. Tests one without and one with a mounted path
 * of the machine.
 */
async function probe(tools: Toolbox, options: SelfTestOptions): Promise<string | undefined> {
  const mounted = { from: options.directory, to: '/run/probe' };
  return (await probeOnce(tools, options, undefined)) ?? (await probeOnce(tools, options, [mounted]));
}

async function probeOnce(
  tools: Toolbox,
  { workspaces, spawner, directory }: SelfTestOptions,
  readOnly: SandboxSpec['readOnly'],
): Promise<string | undefined> {
  try {
    const workspace = await workspaces.open('\0self-test');
    const spec = { keyId: '', argv: ['/bin/sh', '-c', PROBE] as const, ...(readOnly && { readOnly }) };
    const { file, args, ...given } = toLaunch(tools, spec, workspace, directory, { limits: DEFAULT_LIMITS });
    const child = await startProcess(spawner, file, args, { ...given, hasStdin: false, nice: 0 });
    const timer = setTimeout(() => child.kill(0), PROBE_MS);
    const [output, message, { exitCode }] = await Promise.all([text(child.stdout), text(child.stderr), child.ended]);
    clearTimeout(timer);
    if (exitCode !== 0) return message.trim().split('\n').at(-1) || `it ends with exit code ${exitCode}`;
    return check(output.trim().split('\n'), tools.isRoot && !tools.ownUid ? workspace.uid : UID_INSIDE);
  } catch (error) {
    const cause = error instanceof Error ? (error.cause ?? error) : error;
    return cause instanceof Error ? cause.message : String(cause);
  }
}

/** Compares the output of PROBE with what is expected; undefined: it is as expected. */
function check(lines: readonly string[], expectedUid: number | undefined): string | undefined {
  const [uid, capabilities, filter, processes, devices, descriptors, scores = ''] = lines;
  const [before, after] = scores.split(' ');
  if (uid !== String(expectedUid)) return `it runs as uid ${uid}`;
  if (!/^0+$/.test(capabilities ?? '')) return 'it keeps capabilities';
  if (filter !== '2') return 'it has no system call filter';
  if (!(Number(processes) <= 6)) return `it has access to ${processes} processes`;
  if (Number(devices) !== 1) return 'it has access to network devices';
  if (Number(descriptors) !== 4) return 'it inherits descriptors of the gateway';
  if (before === undefined || before !== after) return 'it can lower its out-of-memory score';
  return undefined;
}

/** Returns paths of usable bwrap programs: first those of the system, then the one that comes with Codex. */
async function findBubblewrap(path: string, withBundled: boolean): Promise<string[]> {
  const directories = path.split(delimiter).filter((directory) => isAbsolute(directory));
  const candidates = directories.map((directory) => join(directory, 'bwrap'));
  const bundled = withBundled ? codexBubblewrap() : undefined;
  if (bundled !== undefined) candidates.push(bundled);
  const usable = await Promise.all(candidates.map(isExecutable));
  const system = candidates.filter((_, index) => usable[index]);
  return [...new Set(system)].slice(0, 3);
}

function codexBubblewrap(): string | undefined {
  const [cpu, triple] =
    process.arch === 'arm64' ? ['arm64', 'aarch64-unknown-linux-musl'] : ['x64', 'x86_64-unknown-linux-musl'];
  try {
    const codex = createRequire(import.meta.url).resolve('@openai/codex/package.json');
    const platform = createRequire(codex).resolve(`@openai/codex-linux-${cpu}/package.json`);
    return join(dirname(platform), 'vendor', triple, 'codex-resources', 'bwrap');
  } catch {
    return undefined;
  }
}

/**
 * /usr is mounted read-only. /bin and others are symbolic links into it on most machines, and directories on others.
 */
async function describeSystem(): Promise<string[]> {
  const parts = await Promise.all(
    SYSTEM.map(async (path) => {
      const stats = await lstat(path).catch(() => undefined);
      if (stats?.isSymbolicLink()) return ['--symlink', await readlink(path), path];
      return stats?.isDirectory() ? ['--ro-bind', path, path] : [];
    }),
  );
  return parts.flat();
}

function isExecutable(path: string): Promise<boolean> {
  return access(path, constants.X_OK).then(
    () => true,
    () => false,
  );
}
