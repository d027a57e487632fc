// The program of the helper process that starts sandboxes (spawner.ts). It is passed as source text (`node -e`), so
// that no file is needed beside the bundle. Therefore each function here may use only its arguments, nothing else from
// outside its body.
import { helperLauncher } from './helper-launcher.ts';
import { helperListener } from './helper-listener.ts';
import { helperProcesses, type SendReport } from './helper-processes.ts';
import type { Cgroup, KillRequest, LeaveRequest, SpawnRequest } from './spawn-messages.ts';

const PARTS = [closeInherited, helperGroups, helperLauncher, helperProcesses, helperListener];

/** Source text of the program. */
export const HELPER_PROGRAM = `(${helperMain})(${PARTS.join(', ')})`;

/**
 * Closes descriptors that the gateway inherited and that commands would inherit in turn. Node's own descriptors are
 * close-on-exec (02000000).
 */
function closeInherited(): void {
  const fs = process.getBuiltinModule('node:fs');
  /** The descriptor of Node's channel to the gateway. */
  const channelFd = 3;
  for (const name of fs.readdirSync('/proc/self/fdinfo')) {
    const fd = Number(name);
    try {
      const flags = /^flags:\s*([0-7]+)/m.exec(fs.readFileSync(`/proc/self/fdinfo/${name}`, 'utf8'))?.[1];
      const isInherited = flags !== undefined && (Number.parseInt(flags, 8) & 0o2000000) === 0;
      if (fd > 2 && fd !== channelFd && isInherited) fs.closeSync(fd);
    } catch {
      // The descriptor that read the directory is closed already.
    }
  }
}

/**
 * Moves the helper into control groups, which started processes inherit. The helper stays in the last group, because a
 * move can take 10 ms, and the next process often has the same owner.
 */
function helperGroups() {
  const { spawn } = process.getBuiltinModule('node:child_process');
  const fs = process.getBuiltinModule('node:fs');
  let inside: Cgroup | undefined;
  let parent: string | undefined;

  const enter = (cgroup: Cgroup): void => {
    if (cgroup.path === inside?.path) return;
    fs.writeFileSync(`${cgroup.path}/cgroup.procs`, '0');
    inside = cgroup;
    parent = cgroup.path.slice(0, cgroup.path.lastIndexOf('/'));
  };

  const leave = (): void => {
    if (inside === undefined) return;
    fs.writeFileSync(`${inside.gatewayGroup}/cgroup.procs`, '0');
    inside = undefined;
  };

  /**
   * Removes the groups if the gateway ended without removing them: starts a program that waits until the processes in
   * them have ended.
   */
  const removeGroups = (): void => {
    if (parent === undefined || !fs.existsSync(parent)) return;
    leave();
    const script = 'for i in 1 2 3 4 5 6 7 8 9; do sleep 0.2; rmdir "$0"/*/; rmdir "$0" && exit; done';
    spawn('/bin/sh', ['-c', script, parent], { detached: true, stdio: 'ignore', env: {}, cwd: '/' }).unref();
  };

  return { enter, leave, removeGroups, isIn: (path: string): boolean => inside?.path === path };
}

/**
 * The main function of the helper. The helper ends when its channel closes, so with the gateway; the processes that it
 * started end with it (`--die-with-parent`).
 */
function helperMain(
  closeDescriptors: typeof closeInherited,
  createGroups: typeof helperGroups,
  createLauncher: typeof helperLauncher,
  createProcesses: typeof helperProcesses,
  createListener: typeof helperListener,
): void {
  closeDescriptors();
  const groups = createGroups();
  const send: SendReport = (report, handle, onSent) => {
    if (process.connected) process.send?.(report, handle, undefined, onSent);
    else onSent?.();
  };
  const launch = createLauncher();
  const launchInGroup: typeof launch = (request) => {
    if (request.cgroup !== undefined) groups.enter(request.cgroup);
    return launch(request);
  };
  const processes = createProcesses(send, launchInGroup, createListener(send));

  process.on('message', (message: SpawnRequest | KillRequest | LeaveRequest) => {
    if ('leave' in message) {
      try {
        if (groups.isIn(message.leave)) groups.leave();
      } catch {
        // The gateway repeats the request.
      }
    } else if ('kill' in message) processes.kill(message.id);
    else processes.start(message);
  });
  // Ctrl-C in a terminal sends the signal to the whole process group. The gateway decides when the processes of the
  // helper end.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {});
  const end = (): void => {
    try {
      groups.removeGroups();
    } finally {
      process.exit(0);
    }
  };
  process.once('disconnect', end);
  // Node does not emit 'disconnect' while a stream that was passed is not acknowledged, so never if the gateway was
  // killed before its acknowledgement. `process.connected` is false at once.
  setInterval(() => {
    if (!process.connected) end();
  }, 250);
}
