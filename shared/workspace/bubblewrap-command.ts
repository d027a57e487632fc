// The command line of one sandbox: which namespaces, which mounts, which rights. Pure: it starts nothing and touches no disk.
import { type SandboxLimits, toUlimits } from './limits.ts';
import { takeUid } from './own-uid.ts';
import { HOME, type SandboxSpec, TMP } from './sandbox.ts';
import { ETC_NAMES, UID_INSIDE, type Workspace } from './workspaces.ts';

/** What the self-test found to work on this machine. */
export interface Toolbox {
  /** Absolute path of bwrap. */
  readonly bwrap: string;
  readonly isRoot: boolean;
  /** The gateway is root, and bwrap can be started under the key's uid (own-uid.ts). */
  readonly ownUid: boolean;
  /** Whether a user namespace of its own can be had; without root there is no sandbox without one. */
  readonly userNamespace: boolean;
  /** Whether bwrap can forbid user namespaces inside (`--disable-userns`). */
  readonly disableUserNamespaces: boolean;
  /** Descriptors this process was born with and would hand down: closed before anything of the caller runs. */
  readonly inheritedFds: readonly number[];
  /** The system's directories as bwrap arguments: /usr read-only, /bin and the like as they are on this machine. */
  readonly system: readonly string[];
}

export interface CommandOptions {
  readonly limits: SandboxLimits;
  /** bwrap is started by root: it mounts as root, then setpriv(1) takes the key's uid and unshare(1) a user namespace. */
  readonly asRoot: boolean;
  readonly newSession: boolean;
  /** The workspace can only be read. */
  readonly readOnly?: boolean;
  readonly statusFd?: number;
  /** Taken by what has a session of its own, at once; the gateway sees to the rest when it lasts (priority.ts). */
  readonly nice?: number;
  /** Started by this process itself, not by the helper, which has let go of `inheritedFds`. */
  readonly closesFds?: boolean;
}

/** Size of what is writable but in memory: /dev/shm, and a /tmp that cannot be the workspace's. */
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

/** Files of the machine's /etc that programs on the network need; the rest is the workspaces' own. Every mount costs a quarter of a millisecond. */
const ETC_WITH_NETWORK = ['resolv.conf', 'ssl/certs', 'ssl/openssl.cnf'];

/** What the shell that sets the limits answers when it cannot enter the directory, and how what it says of that begins. */
export const CANNOT_ENTER = { exitCode: 125, message: /^sandbox: .*\bcd: / };

/**
 * Arguments for bwrap. The caller's environment is set at the very end of the chain, by env(1): nothing of it is seen by a program that
 * still has rights to lose, nor by the shell. Every program on the way costs a millisecond: where there is no such environment, there is
 * no env(1).
 */
export function toBubblewrapArgs(
  tools: Toolbox,
  spec: SandboxSpec,
  workspace: Workspace,
  options: CommandOptions,
): string[] {
  const env = Object.entries(spec.env ?? {}).map(([name, value]) => `${name}=${value}`);
  return [
    ...namespaces(tools, spec, options),
    ...(options.newSession ? ['--new-session'] : []),
    ...(options.statusFd === undefined ? [] : ['--json-status-fd', String(options.statusFd)]),
    ...mounts(tools, spec, workspace, options.readOnly === true ? '--ro-bind' : '--bind'),
    ...Object.entries(BASE_ENV).flatMap(([name, value]) => ['--setenv', name, value]),
    '--',
    ...(options.asRoot ? dropRights(tools, workspace) : []),
    ...toShell(tools, options),
    spec.cwd ?? HOME,
    ...(env.length === 0 ? [] : ['/usr/bin/env', '--', ...env]),
    ...spec.argv,
  ];
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

/** A shell that offers itself first to the out-of-memory killer, enters the directory, takes the limits upon itself and becomes the rest. */
function toShell({ inheritedFds }: Toolbox, { limits, closesFds, nice }: CommandOptions): string[] {
  const fds = closesFds === true ? inheritedFds : [];
  const script = [
    '{ echo 1000 > /proc/self/oom_score_adj; } 2>/dev/null',
    ...(nice === undefined ? [] : [`{ echo ${nice} > /proc/self/autogroup; } 2>/dev/null`]),
    ...(fds.length === 0 ? [] : [`exec ${fds.map((fd) => `${fd}>&-`).join(' ')}`]),
    `cd -- "$1" || exit ${CANNOT_ENTER.exitCode}`,
    'shift; unset OLDPWD',
    `${toUlimits(limits)} && exec "$@"`,
  ];
  // sh(1) of Debian knows descriptors of one digit only.
  const shell = fds.length === 0 ? ['/bin/sh'] : ['/bin/bash', '--posix'];
  return [...shell, '-c', script.join('\n'), 'sandbox'];
}

function dropRights(tools: Toolbox, { uid }: Workspace): string[] {
  if (uid === undefined) return [];
  if (!tools.userNamespace) return [...takeUid(uid)];
  const map = [`--map-user=${UID_INSIDE}`, `--map-group=${UID_INSIDE}`];
  return [...takeUid(uid), '/usr/bin/unshare', '--user', ...map, '--'];
}

function mounts(tools: Toolbox, spec: SandboxSpec, workspace: Workspace, bind: '--bind' | '--ro-bind'): string[] {
  // What is below /usr is there already.
  const readOnly = (spec.readOnlyPaths ?? []).filter((path) => !path.startsWith('/usr/'));
  const extra = spec.writable === undefined ? readOnly : [...readOnly, spec.writable.to];
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
    ...readOnly.flatMap((path) => ['--ro-bind', path, path]),
    ...(spec.writable === undefined ? [] : ['--bind', spec.writable.from, spec.writable.to]),
    // What bwrap put on its own tmpfs is memory that no limit counts.
    ...['--remount-ro', '/dev', '--remount-ro', '/'],
  ];
}

/** All of it at once, unless something must be mounted inside. */
function etc(workspace: Workspace, extra: readonly string[]): string[] {
  if (!extra.some((path) => path.startsWith('/etc/'))) return ['--ro-bind', workspace.etc, '/etc'];
  return [
    ...directories(ETC_WITH_NETWORK.map((name) => `/etc/${name}`)),
    ...ETC_NAMES.flatMap((name) => ['--ro-bind-try', `${workspace.etc}/${name}`, `/etc/${name}`]),
  ];
}

/** The directories above some paths, for all to pass: those that bwrap makes on the way are for root alone. */
function directories(paths: readonly string[]): string[] {
  const above = new Set<string>();
  for (const path of paths) {
    for (let end = path.indexOf('/', 1); end > 0; end = path.indexOf('/', end + 1)) above.add(path.slice(0, end));
  }
  return [...above].flatMap((path) => ['--perms', '0755', '--dir', path]);
}

/**
 * The caller's directory. Where something must be mounted inside it, an empty one in memory takes its place: bwrap makes mount points
 * with its own rights, and in a directory that a caller has filled, a symlink could lead them anywhere.
 */
function own(bind: string, from: string, to: string, extra: readonly string[]): string[] {
  const isCrossed = extra.some((path) => path === to || path.startsWith(`${to}/`));
  return isCrossed ? ['--perms', '1777', '--size', String(SHM_BYTES), '--tmpfs', to] : [bind, from, to];
}
