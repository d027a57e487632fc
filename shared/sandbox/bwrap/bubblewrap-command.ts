// Builds the command line of one sandbox: its namespaces, mounts and rights. Pure functions: no process is started and
// no file is read.

import { HOME, TMP } from '../commands.ts';
import { type SandboxLimits, toUlimits } from '../limits.ts';
import { toListenerLine } from '../network/listener.ts';
import type { SandboxSpec } from '../sandbox.ts';
import { ETC_NAMES, filterOf, UID_INSIDE } from '../workspace/etc.ts';
import type { Workspace } from '../workspace/workspaces.ts';
import { changeUid } from './own-uid.ts';

/** The programs and options that work on this machine, as the self-test found. */
export interface Toolbox {
  /** Absolute path of bwrap. */
  readonly bwrap: string;
  readonly isRoot: boolean;
  /** Whether the gateway runs as root and can start bwrap under the key's uid (own-uid.ts). */
  readonly ownUid: boolean;
  /** Whether bwrap can forbid user namespaces inside (`--disable-userns`). */
  readonly disableUserNamespaces: boolean;
  /**
   * Arguments of bwrap that mount the system's directories: /usr read-only, /bin and others as they are on this
   * machine.
   */
  readonly system: readonly string[];
}

export interface CommandOptions {
  readonly limits: SandboxLimits;
  /**
   * Whether bwrap runs as root: it mounts as root, then setpriv(1) changes to the key's uid. Otherwise bwrap creates a
   * user namespace.
   */
  readonly asRoot: boolean;
  /** Whether the workspace is mounted read-only. */
  readonly readOnly?: boolean;
  /** Whether descriptors 0 to 2 are a terminal, which becomes the controlling terminal of the program. */
  readonly hasTerminal?: boolean;
}

/** How the spawner has to start bwrap. */
export interface BubblewrapCommand {
  /**
   * Arguments. They contain no environment variable and no path of the machine, because every user of the machine can
   * read the arguments of processes.
   */
  readonly args: readonly string[];
  /**
   * What bwrap reads from INPUT_FD: its options, each followed by a NUL, with paths of the machine and the caller's
   * environment.
   */
  readonly input: string;
  /** Files to open from FILES_FD on. */
  readonly files: readonly string[];
}

/**
 * Descriptors of bwrap: it writes its status to STATUS_FD and reads its options from INPUT_FD. FILES_FD and later ones
 * are open files.
 */
const STATUS_FD = 3;
const INPUT_FD = 4;
const FILES_FD = 5;
/** The descriptor after the one file. It must have one digit, because sh(1) supports no more. */
const CHANNEL_FD = 6;

/** Size of writable directories in memory: /dev/shm, and a home or /tmp in which a path is mounted. */
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
 * Files of the machine's /etc that programs with network access need. Other files of /etc are copies (workspaces.ts),
 * because every mount takes a quarter of a millisecond.
 */
const ETC_WITH_NETWORK = ['resolv.conf', 'ssl/certs', 'ssl/openssl.cnf'];

/** Exit code and message of the shell in the sandbox if it cannot enter the working directory. */
export const CANNOT_ENTER = { exitCode: 125, message: /^sandbox: .*\bcd: / };

/** bwrap sets the environment; env(1) would show it in its command line. */
export function toBubblewrapCommand(
  tools: Toolbox,
  spec: SandboxSpec,
  workspace: Workspace,
  options: CommandOptions,
): BubblewrapCommand {
  const bwrapOptions = [
    ...namespaces(tools, spec, options),
    // Without a terminal of its own, the command gets a new session, so that it cannot use the terminal of the gateway.
    // With one, setsid(1) below creates the session.
    ...(options.hasTerminal === true ? [] : ['--new-session']),
    ...['--json-status-fd', String(STATUS_FD), '--seccomp', String(FILES_FD)],
    ...mounts(tools, spec, workspace, options.readOnly === true ? '--ro-bind' : '--bind'),
    ...Object.entries({ ...BASE_ENV, ...spec.env }).flatMap(([name, value]) => ['--setenv', name, value]),
  ];
  const args = [
    ...['--args', String(INPUT_FD), '--'],
    ...(options.asRoot && workspace.uid !== undefined ? changeUid(workspace.uid) : []),
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

/**
 * The start of a shell command that enters the working directory, sets the limits for itself and then executes the
 * program.
 */
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
    // The root directory and /dev, which are tmpfs of bwrap, become read-only, because files on them would use memory
    // that no limit counts. /proc becomes read-only, so that a process cannot lower its oom_score_adj; except for a
    // program that creates sandboxes, which must write uid_map there.
    ...['--remount-ro', '/dev', ...(spec.nested === true ? [] : ['--remount-ro', '/proc']), '--remount-ro', '/'],
  ];
}

/** Mounts the workspaces' etc directory as a whole, unless another path must be mounted inside it. */
function etc(workspace: Workspace, extra: readonly string[]): string[] {
  if (!extra.some((path) => path.startsWith('/etc/'))) return ['--ro-bind', workspace.etc, '/etc'];
  return [
    ...directories(ETC_WITH_NETWORK.map((name) => `/etc/${name}`)),
    ...ETC_NAMES.flatMap((name) => ['--ro-bind-try', `${workspace.etc}/${name}`, `/etc/${name}`]),
  ];
}

/**
 * Creates the parent directories of these paths so that all users can pass through them. Those that bwrap creates by
 * itself are for root only.
 */
function directories(paths: readonly string[]): string[] {
  const above = new Set<string>();
  for (const path of paths) {
    for (let end = path.indexOf('/', 1); end > 0; end = path.indexOf('/', end + 1)) above.add(path.slice(0, end));
  }
  return [...above].flatMap((path) => ['--perms', '0755', '--dir', path]);
}

/**
 * Mounts a directory of the caller. If another path must be mounted inside it, an empty tmpfs is mounted instead: bwrap
 * creates mount points with its own rights, and a symbolic link that the caller put into the directory could redirect
 * them to any path.
 */
function own(bind: string, from: string, to: string, extra: readonly string[]): string[] {
  const hasMountInside = extra.some((path) => path === to || path.startsWith(`${to}/`));
  return hasMountInside ? ['--perms', '1777', '--size', String(SHM_BYTES), '--tmpfs', to] : [bind, from, to];
}
