// Part of the program of the helper process (spawn-helper.ts): starts its processes and passes their streams on. It is
// source text there, so it must use nothing from outside its body.
import type { SpawnReport, SpawnRequest } from './spawn-messages.ts';

type Handle = import('node:net').Socket | import('node:net').Server;
/** `sent` is called when the gateway has the handle, or will never have it. */
export type SendReport = (report: SpawnReport, handle?: Handle, sent?: () => void) => void;

export interface HelperProcesses {
  start(request: SpawnRequest): void;
  kill(id: number): void;
}

/**
 * Owns the running processes. `beforeStart` is called first, in the helper, for what the process inherits;
 * `handListener` for a process with a listener.
 */
export function helperProcesses(
  send: SendReport,
  beforeStart: (request: SpawnRequest) => void,
  handListener: (id: number, child: import('node:child_process').ChildProcess) => void,
): HelperProcesses {
  const { spawn } = process.getBuiltinModule('node:child_process');
  const { Socket } = process.getBuiltinModule('node:net');
  const fs = process.getBuiltinModule('node:fs');
  type Started = ReturnType<typeof spawn>;
  const started = new Map<number, Started>();

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

  /** Throws where the process cannot be started. */
  const launch = ({ file, args, hasStdin, tty, files, hasListener, uid }: SpawnRequest): Started => {
    const toClose: number[] = [];
    const keep = (fd: number): number => {
      toClose.push(fd);
      return fd;
    };
    try {
      const terminal = tty === undefined ? undefined : keep(openTty(tty, uid));
      const streams =
        terminal === undefined
          ? ([hasStdin ? 'pipe' : 'ignore', 'pipe', 'pipe'] as const)
          : [terminal, terminal, terminal];
      const opened = files.map((path) => keep(fs.openSync(path, 'r')));
      const channel = hasListener ? (['ipc'] as const) : [];
      const stdio = [...streams, 'pipe', 'pipe', ...opened, ...channel] as const;
      const user = uid === undefined ? {} : { uid, gid: uid };
      return spawnFirstToDie(file, args, { stdio: [...stdio], env: {}, cwd: '/', ...user });
    } finally {
      for (const fd of toClose) fs.closeSync(fd);
    }
  };

  /**
   * Passes a stream to the gateway, unread: the descriptor is the gateway's from then on. Without a stream, a terminal
   * takes its place.
   */
  const hand = (id: number, pid: number, stream: 'stdin' | 'stdout' | 'stderr', socket: unknown): void => {
    send({ id, pid, stream }, socket instanceof Socket ? socket : undefined);
  };

  /** Node reads at once, and again when the process ends; bytes that it read here would be lost to the gateway. */
  const leaveUnread = (stream: Started['stdout']): void => {
    if (!stream || !('resume' in stream)) return;
    Reflect.get(stream, '_handle').readStop();
    stream.resume = () => stream;
  };

  /** Sends what it writes to its status descriptor, then how it ended. */
  const report = (id: number, child: Started): void => {
    const status = child.stdio[3];
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
    void Promise.all([exited.promise, statusEnd]).then(([last]) => send(last));
  };

  const start = (request: SpawnRequest): void => {
    const { id, hasStdin, tty, input, hasListener } = request;
    let child: Started;
    try {
      beforeStart(request);
      child = launch(request);
    } catch (error) {
      send({ id, error: error instanceof Error && 'code' in error ? String(error.code) : String(error) });
      return;
    }
    const [stdin, stdout, stderr, , inputPipe] = child.stdio;
    // A program that ends early does not read it to its end.
    inputPipe?.on('error', () => {});
    if (inputPipe && 'end' in inputPipe) inputPipe.end(input);
    leaveUnread(stdout);
    leaveUnread(stderr);
    child.once('error', (error) => {
      started.delete(id);
      send({ id, error: 'code' in error ? String(error.code) : error.message });
    });
    const { pid } = child;
    if (pid === undefined) return;
    started.set(id, child);
    if (hasListener) handListener(id, child);
    hand(id, pid, 'stdout', stdout);
    hand(id, pid, 'stderr', stderr);
    if (hasStdin && tty === undefined) hand(id, pid, 'stdin', stdin);
    report(id, child);
  };

  return { start, kill: (id) => started.get(id)?.kill('SIGKILL') };
}
