// Builds the command line of one sandbox: its namespaces, mounts and rights. Pure: it starts no process and reads no
// file.

import { HOME, TMP } from './commands.ts';
import { toListenerLine } from './process/listener.ts';
import { takeUid } from './process/own-uid.ts';
import { type SandboxLimits, toUlimits } from './quota/limits.ts';
import type { SandboxSpec } from './sandbox.ts';
import { ETC_NAMES, filterOf, UID_INSIDE, type Workspace } from './workspaces.ts';

/** What the self-test found to work on this machine. */
export interface Toolbox {
  /** Absolute path of bwrap. */
  readonly bwrap: string;
  readonly isRoot: boolean;
  /** The gateway is root, and bwrap can be started under the key's uid (own-uid.ts). */
  readonly ownUid: boolean;
  /** Whether bwrap can forbid user namespaces inside (`--disable-userns`). */
  readonly disableUserNamespaces: boolean;
  /** The system's directories as bwrap arguments: /usr read-only, /bin and the like as they are on this machine. */
  readonly system: readonly string[];
}

export interface CommandOptions {
  readonly limits: SandboxLimits;
  /**
   * bwrap is started by root: it mounts as root, then setpriv(1) changes to the key's uid. Otherwise bwrap makes a user
   * namespace.
   */
  readonly asRoot: boolean;
  /** The workspace is read-only. */
  readonly readOnly?: boolean;
  /** Descriptors 0 to 2 are a terminal, which becomes the controlling terminal of the program. */
  readonly hasTerminal?: boolean;
}

/** How to start bwrap; descriptors as the spawner opens them. */
export interface BubblewrapCommand {
  /**
   * Visible to every user of the machine, because the program ends up with the same arguments: no variable, no path.
   */
  readonly args: readonly string[];
  /**
   * For INPUT_FD: bwrap's options, each followed by a NUL. Paths of the machine and the caller's environment are here.
   */
  readonly input: string;
  /** From FILES_FD on. */
  readonly files: readonly string[];
}

/**
 * Descriptors of bwrap: it writes its status to the first, reads its options from the second; the third and later ones
 * are open files.
 */
export const STATUS_FD = 3;
const INPUT_FD = 4;
const FILES_FD = 5;
/** After the one file; one digit, as sh(1) requires. */
const CHANNEL_FD = 6;

/** Size of writable directories in memory: /dev/shm, and a /tmp that cannot be the workspace's. */
const SHM_BYTES = 64 << 20;

const BASE_ENV = {
  PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
  HOME,
  USER: 'user',
  LOGNAME: 'user',
  SHELL: '/bin/sh',
  LANG: 'C.UTF-8',
  TMPDIR: TMP,
} as const;

/**
 * Files of the machine's /etc that programs on the network need; the others are the workspaces' own. Every mount costs
 * a quarter of a millisecond.
 */
const ETC_WITH_NETWORK = ['resolv.conf', 'ssl/certs', 'ssl/openssl.cnf'];

/** Exit code and message of the shell that sets the limits when it cannot enter the directory. */
export const CANNOT_ENTER = { exitCode: 125, message: /^sandbox: .*\bcd: / };

/** bwrap sets the environment: env(1) would show it in its own command line. */
export function toBubblewrapCommand(
  tools: Toolbox,
  spec: SandboxSpec,
  workspace: Workspace,
  options: CommandOptions,
): BubblewrapCommand {
  const bwrapOptions = [
    ...namespaces(tools, spec, options),
    // A process inside must take the terminal; all other processes are kept from the terminal of the gateway.
    ...(options.hasTerminal === true ? [] : ['--new-session']),
    ...['--json-status-fd', String(STATUS_FD), '--seccomp', String(FILES_FD)],
    ...mounts(tools, spec, workspace, options.readOnly === true ? '--ro-bind' : '--bind'),
    ...Object.entries({ ...BASE_ENV, ...spec.env }).flatMap(([name, value]) => ['--setenv', name, value]),
  ];
  const args = [
    ...['--args', String(INPUT_FD), '--'],
    ...(options.asRoot && workspace.uid !== undefined ? takeUid(workspace.uid) : []),
    ...(options.hasTerminal === true ? ['/usr/bin/setsid', '-c'] : []),
    ...toShell(options.limits, spec.listenPort),
    spec.cwd ?? HOME,
    ...spec.argv,
  ];
  const filter = filterOf(workspace, spec.nested === true ? 'nested' : 'command');
  return { args, input: bwrapOptions.map((option) => `${option}\0`).join(''), files: [filter] };
}

function namespaces(tools: Toolbox, spec: SandboxSpec, { asRoot }: CommandOptions): string[] {
  const rights = asRoot
    ? ['--cap-drop', 'ALL', '--cap-add', 'CAP_SETUID', '--cap-add', 'CAP_SETGID']
    : [
        '--unshare-user',
        ...(tools.disableUserNamespaces && spec.nested !== true ? ['--disable-userns'] : []),
        ...['--uid', String(UID_INSIDE), '--gid', String(UID_INSIDE), '--cap-drop', 'ALL'],
      ];
  return [
    '--unshare-pid',
    '--unshare-ipc',
    '--unshare-uts',
    '--unshare-cgroup-try',
    ...(spec.network === true ? [] : ['--unshare-net']),
    ...rights,
    ...['--hostname', 'sandbox', '--die-with-parent', '--clearenv'],
  ];
}

/** A shell that enters the directory, sets the limits for itself and then executes the program. */
function toShell(limits: SandboxLimits, listenPort: number | undefined): string[] {
  const script = [
    `cd -- "$1" || exit ${CANNOT_ENTER.exitCode}`,
    'shift; unset OLDPWD',
    ...(listenPort === undefined ? [] : [toListenerLine(listenPort, CHANNEL_FD)]),
    `${toUlimits(limits)} && exec "$@"${listenPort === undefined ? '' : ` ${CHANNEL_FD}>&-`}`,
  ];
  return ['/bin/sh', '-c', script.join('\n'), 'sandbox'];
}

function mounts(tools: Toolbox, spec: SandboxSpec, workspace: Workspace, bind: '--bind' | '--ro-bind'): string[] {
  // Paths below /usr are mounted already.
  const readOnly = (spec.readOnly ?? []).filter(({ from, to }) => from !== to || !from.startsWith('/usr/'));
  const extra = [...readOnly, ...(spec.writable === undefined ? [] : [spec.writable])].map(({ to }) => to);
  return [
    ...tools.system,
    ...etc(workspace, extra),
    ...(spec.network === true ? ETC_WITH_NETWORK : []).flatMap((name) => [
      '--ro-bind-try',
      `/etc/${name}`,
      `/etc/${name}`,
    ]),
    ...directories([HOME]),
    ...['--proc', '/proc', '--dev', '/dev', '--perms', '1777', '--size', String(SHM_BYTES), '--tmpfs', '/dev/shm'],
    ...['--dir', '/run', '--dir', '/var', '--symlink', '/tmp', '/var/tmp'],
    ...own(bind, workspace.tmp, TMP, extra),
    ...own(bind, workspace.home, HOME, extra),
    ...directories(extra),
    ...readOnly.flatMap(({ from, to }) => ['--ro-bind', from, to]),
    ...(spec.writable === undefined ? [] : ['--bind', spec.writable.from, spec.writable.to]),
    // Files that bwrap creates on its own tmpfs are memory that no limit counts. In /proc a process could lower its
    // oom_score_adj; a program that makes sandboxes of its own must write its uid_map there.
    ...['--remount-ro', '/dev', ...(spec.nested === true ? [] : ['--remount-ro', '/proc']), '--remount-ro', '/'],
  ];
}

/** The caller's whole directory in one mount, unless a path must be mounted inside it. */
function etc(workspace: Workspace, extra: readonly string[]): string[] {
  if (!extra.some((path) => path.startsWith('/etc/'))) return ['--ro-bind', workspace.etc, '/etc'];
  return [
    ...directories(ETC_WITH_NETWORK.map((name) => `/etc/${name}`)),
    ...ETC_NAMES.flatMap((name) => ['--ro-bind-try', `${workspace.etc}/${name}`, `/etc/${name}`]),
  ];
}

/**
 * The parent directories of these paths, passable for all users: those that bwrap creates on the way are for root only.
 */
function directories(paths: readonly string[]): string[] {
  const above = new Set<string>();
  for (const path of paths) {
    for (let end = path.indexOf('/', 1); end > 0; end = path.indexOf('/', end + 1)) above.add(path.slice(0, end));
  }
  return [...above].flatMap((path) => ['--perms', '0755', '--dir', path]);
}

/**
 * The caller's directory. Where a path must be mounted inside it, an empty directory in memory takes its place: bwrap
 * creates mount points with its own rights, and in a directory that a caller has filled, a symlink could lead them to
 * any path.
 */
function own(bind: string, from: string, to: string, extra: readonly string[]): string[] {
  const isCrossed = extra.some((path) => path === to || path.startsWith(`${to}/`));
  return isCrossed ? ['--perms', '1777', '--size', String(SHM_BYTES), '--tmpfs', to] : [bind, from, to];
}
