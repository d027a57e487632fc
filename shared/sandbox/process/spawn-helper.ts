// The program of the helper process that starts sandboxes (spawner.ts). It is passed as source text (`node -e`), so
// that it needs no file beside the bundle; each part must use nothing from outside its body but its arguments.
import { helperListener } from './helper-listener.ts';
import { helperProcesses, type SendReport } from './helper-processes.ts';
import type { Cgroup, KillRequest, LeaveRequest, SpawnRequest } from './spawn-messages.ts';

/** Source text of the program. */
export const HELPER_PROGRAM = `(${helperMain})(${closeInherited}, ${helperGroups}, ${helperProcesses}, ${helperListener})`;

/** Closes descriptors that the gateway inherited and would pass on; all of Node's own are close-on-exec (02000000). */
function closeInherited(): void {
  const fs = process.getBuiltinModule('node:fs');
  /** The descriptor on which Node has the channel to the gateway. */
  const channelFd = 3;
  for (const name of fs.readdirSync('/proc/self/fdinfo')) {
    const fd = Number(name);
    try {
      const flags = /^flags:\s*([0-7]+)/m.exec(fs.readFileSync(`/proc/self/fdinfo/${name}`, 'utf8'))?.[1];
      const isInherited = flags !== undefined && (Number.parseInt(flags, 8) & 0o2000000) === 0;
      if (fd > 2 && fd !== channelFd && isInherited) fs.closeSync(fd);
    } catch {
      // The descriptor of the directory itself is closed already.
    }
  }
}

/**
 * The control group that the helper is in. A started process inherits it. The helper stays in the last one: a move
 * costs the kernel some 10 ms where moves are rare, and nothing when the next process has the same owner.
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
    fs.writeFileSync(`${inside.home}/cgroup.procs`, '0');
    inside = undefined;
  };

  /**
   * Removes the groups when the gateway has ended without doing so: starts a program that waits until the processes in
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
 * The body of the helper. It ends with the gateway, when the channel closes; the processes it has started end with it
 * (`--die-with-parent`).
 */
function helperMain(
  closeDescriptors: typeof closeInherited,
  createGroups: typeof helperGroups,
  createProcesses: typeof helperProcesses,
  createListener: typeof helperListener,
): void {
  closeDescriptors();
  const groups = createGroups();
  const send: SendReport = (report, handle, sent) => {
    if (process.connected) process.send?.(report, handle, undefined, sent);
    else sent?.();
  };
  const processes = createProcesses(
    send,
    ({ cgroup }) => {
      if (cgroup !== undefined) groups.enter(cgroup);
    },
    createListener(send),
  );

  process.on('message', (message: SpawnRequest | KillRequest | LeaveRequest) => {
    if ('leave' in message) {
      try {
        if (groups.isIn(message.leave)) groups.leave();
      } catch {
        // The request is repeated.
      }
    } else if ('kill' in message) processes.kill(message.id);
    else processes.start(message);
  });
  // Ctrl-C in a terminal reaches the whole group; the gateway decides when the processes here end.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {});
  process.once('disconnect', () => {
    try {
      groups.removeGroups();
    } finally {
      process.exit(0);
    }
  });
}
