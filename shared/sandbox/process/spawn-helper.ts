// The program of the helper process that starts sandboxes (spawner.ts). It is passed as source text (`node -e`), so
// that it needs no file beside the bundle, and must use nothing from outside its body.

/** Directories of a control group, and of the group that the helper moves to when it leaves that one. */
export interface Cgroup {
  readonly path: string;
  readonly home: string;
}

/**
 * To the helper: start this. Descriptors: 0 to 2 streams or the terminal, 3 status, 4 `input`, from 5 on `files`; no
 * others.
 */
export interface SpawnRequest {
  readonly id: number;
  readonly file: string;
  readonly args: readonly string[];
  readonly hasStdin: boolean;
  /** Path of a terminal that replaces the three streams. */
  readonly tty?: string | undefined;
  readonly input: string;
  /** Files of the machine, opened for reading. */
  readonly files: readonly string[];
  /** User and group of the process; default: the helper's own. */
  readonly uid?: number | undefined;
  /** The control group of the process; default: the helper's current one. */
  readonly cgroup?: Cgroup | undefined;
}

/** To the helper: leave this control group, if in it. */
export interface LeaveRequest {
  readonly leave: string;
}

/** To the helper: KILL the process started under this id. */
export interface KillRequest {
  readonly id: number;
  readonly kill: true;
}

/**
 * From the helper, in this order: one `error`, or `stream`s, each with its handle, then lines of `status` and one
 * `exit`.
 */
export type SpawnReport =
  | { readonly id: number; readonly error: string }
  | { readonly id: number; readonly pid: number; readonly stream: 'stdin' | 'stdout' | 'stderr' }
  | { readonly id: number; readonly status: string }
  | { readonly id: number; readonly exit: { readonly code: number | null; readonly signal: NodeJS.Signals | null } };

/**
 * The body of the helper. It ends with the gateway, when the channel closes; the processes it has started end with it
 * (`--die-with-parent`).
 */
export function helperMain(): void {
  const { spawn } = process.getBuiltinModule('node:child_process');
  const fs = process.getBuiltinModule('node:fs');
  type Started = ReturnType<typeof spawn>;
  const started = new Map<number, Started>();
  /** The descriptor on which Node has the channel to the gateway. */
  const channelFd = 3;

  // Descriptors that the gateway inherited and would pass on; all of Node's own are close-on-exec (02000000).
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

  const send = (report: SpawnReport, handle?: import('node:net').Socket): void => {
    if (process.connected) process.send?.(report, handle);
  };

  /**
   * Passes a stream to the gateway, unread: the descriptor is the gateway's from then on. Without a stream, a terminal
   * takes its place.
   */
  const hand = (id: number, pid: number, stream: 'stdin' | 'stdout' | 'stderr', socket: unknown): void => {
    const { Socket } = process.getBuiltinModule('node:net');
    send({ id, pid, stream }, socket instanceof Socket ? socket : undefined);
  };

  /**
   * A started process inherits the helper's control group. The helper stays in the last one: a move costs the kernel
   * some 10 ms where moves are rare, and nothing when the next process has the same owner.
   */
  let inside: Cgroup | undefined;
  let parent: string | undefined;
  const enter = (cgroup: Cgroup): void => {
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

  const scoreFile = '/proc/self/oom_score_adj';
  const ownScore = fs.readFileSync(scoreFile, 'latin1');
  const setScore = (score: string): void => {
    try {
      fs.writeFileSync(scoreFile, score);
    } catch {
      // Below the minimum that the parent of the gateway has set.
    }
  };

  /**
   * The out-of-memory killer selects sandbox processes before all others. The score is inherited, and a value set by a
   * process with CAP_SYS_RESOURCE is a lower bound for processes without it; so it is set here, only while the process
   * starts.
   */
  const spawnFirstToDie = (
    file: string,
    args: readonly string[],
    options: import('node:child_process').SpawnOptions,
  ) => {
    setScore('1000');
    try {
      return spawn(file, args, options);
    } finally {
      setScore(ownScore);
    }
  };

  /** The terminal must belong to the user that runs in it, and must not become the helper's controlling terminal. */
  const openTty = (path: string, uid: number | undefined): number => {
    const fd = fs.openSync(path, fs.constants.O_RDWR | fs.constants.O_NOCTTY);
    if (uid !== undefined) fs.fchownSync(fd, uid, uid);
    return fd;
  };

  const start = ({ id, file, args, hasStdin, tty, input, files, uid, cgroup }: SpawnRequest): void => {
    let child: Started;
    const opened: number[] = [];
    const keep = (fd: number): number => {
      opened.push(fd);
      return fd;
    };
    try {
      if (cgroup !== undefined && cgroup.path !== inside?.path) enter(cgroup);
      const terminal = tty === undefined ? undefined : keep(openTty(tty, uid));
      const streams =
        terminal === undefined
          ? ([hasStdin ? 'pipe' : 'ignore', 'pipe', 'pipe'] as const)
          : [terminal, terminal, terminal];
      const stdio = [...streams, 'pipe', 'pipe', ...files.map((path) => keep(fs.openSync(path, 'r')))] as const;
      const user = uid === undefined ? {} : { uid, gid: uid };
      child = spawnFirstToDie(file, args, { stdio: [...stdio], env: {}, cwd: '/', ...user });
    } catch (error) {
      send({ id, error: error instanceof Error && 'code' in error ? String(error.code) : String(error) });
      return;
    } finally {
      for (const fd of opened) fs.closeSync(fd);
    }
    const [stdin, stdout, stderr, status, inputPipe] = child.stdio;
    // A program that ends early does not read it to its end.
    inputPipe?.on('error', () => {});
    if (inputPipe && 'end' in inputPipe) inputPipe.end(input);
    // Node reads at once, and again when the process ends; bytes that it read here would be lost to the gateway.
    for (const stream of [stdout, stderr]) {
      if (!stream || !('resume' in stream)) continue;
      Reflect.get(stream, '_handle').readStop();
      stream.resume = () => stream;
    }
    child.once('error', (error) => {
      started.delete(id);
      send({ id, error: 'code' in error ? String(error.code) : error.message });
    });
    const { pid } = child;
    if (pid === undefined) return;
    started.set(id, child);
    hand(id, pid, 'stdout', stdout);
    hand(id, pid, 'stderr', stderr);
    if (hasStdin && tty === undefined) hand(id, pid, 'stdin', stdin);
    // Whole lines: bwrap writes one in several pieces, and each message wakes the gateway.
    let line = '';
    status?.on('error', () => {});
    status?.on('data', (bytes: Buffer) => {
      if (line.length < 4096) line += bytes.toString('latin1');
      if (!line.endsWith('\n')) return;
      send({ id, status: line });
      line = '';
    });
    const exited = Promise.withResolvers<SpawnReport>();
    child.once('exit', (code, signal) => {
      started.delete(id);
      exited.resolve({ id, exit: { code, signal } });
    });
    const statusEnd = new Promise((resolve) => status?.once('close', resolve));
    void Promise.all([exited.promise, statusEnd]).then(([report]) => send(report));
  };

  process.on('message', (message: SpawnRequest | KillRequest | LeaveRequest) => {
    if ('leave' in message) {
      try {
        if (inside?.path === message.leave) leave();
      } catch {
        // The request is repeated.
      }
    } else if ('kill' in message) started.get(message.id)?.kill('SIGKILL');
    else start(message);
  });
  // Ctrl-C in a terminal reaches the whole group; the gateway decides when the processes here end.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {});
  process.once('disconnect', () => {
    try {
      removeGroups();
    } finally {
      process.exit(0);
    }
  });
}
