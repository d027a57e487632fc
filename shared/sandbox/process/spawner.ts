// Starts processes through a small helper process. Starting a process copies the page tables of its parent, which would
// block a gateway of 100 MB for milliseconds; the helper has 50 MB and does not block the gateway. The helper passes
// the descriptors of the streams to the gateway, so no byte is read or copied on the way.
import type { ChildProcess, SendHandle } from 'node:child_process';
import { Server, Socket } from 'node:net';
import type { Readable, Writable } from 'node:stream';
import { startHelper } from './helper.ts';
import type { Cgroup, KillRequest, LeaveRequest, SpawnReport, SpawnRequest } from './spawn-messages.ts';

export interface SpawnedProcess {
  readonly pid: number;
  readonly stdin: Writable | undefined;
  readonly stdout: Readable;
  readonly stderr: Readable;
  /** The listening socket that the process sent (`hasListener`). Rejects if the process ends without sending one. */
  readonly listener: Promise<Server> | undefined;
  /** Resolves when the process has ended and its last status text was received. Never rejects. */
  readonly exited: Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>;
  kill(): void;
}

export interface SpawnOptions {
  readonly hasStdin: boolean;
  /**
   * Path of a terminal that becomes descriptors 0 to 2 of the process. `stdout` and `stderr` are closed streams then.
   */
  readonly tty?: string | undefined;
  /** The bytes that the process reads from descriptor 4. */
  readonly input?: string;
  /** Files that are open for reading from descriptor 5 on. */
  readonly files?: readonly string[];
  /** Whether the descriptor after `files` is a channel on which the process sends a listening socket. */
  readonly hasListener?: boolean;
  readonly uid?: number | undefined;
  /** The control group in which the process starts. */
  readonly cgroup?: Cgroup | undefined;
  onStatus(text: string): void;
}

export interface Spawner {
  /**
   * Starts a program with an empty environment, in `/`, as user and group `uid` if given. `onStatus` receives what it
   * writes to descriptor 3. It inherits only the descriptors named in the options. Rejects with an Error whose `code`
   * is that of the failure (E2BIG, ENOENT, EAGAIN ...).
   */
  spawn(file: string, args: readonly string[], options: SpawnOptions): Promise<SpawnedProcess>;
  /** Moves the helper out of this control group, if it is in it. */
  leaveCgroup(cgroup: string): void;
  /** Ends the helper and with it all running processes. */
  close(): void;
}

interface Entry {
  readonly hasStdin: boolean;
  onStatus(text: string): void;
  readonly started: PromiseWithResolvers<SpawnedProcess>;
  readonly exited: PromiseWithResolvers<Awaited<SpawnedProcess['exited']>>;
  readonly listener: PromiseWithResolvers<Server> | undefined;
  pid?: number;
  stdin?: Socket;
  stdout?: Socket;
  stderr?: Socket;
  isStarted: boolean;
}

/**
 * The helper is started with the first process, and again after it has died; its processes die with it. `commandPrefix`
 * returns a prefix of its command line.
 */
export function createSpawner(commandPrefix: () => readonly string[] = () => []): Spawner {
  const entries = new Map<number, Entry>();
  let helper: ChildProcess | undefined;
  let lastId = 0;

  return {
    spawn(file, args, { hasStdin, tty, input = '', files = [], hasListener = false, uid, cgroup, onStatus }) {
      const target = helper ?? startHelperProcess();
      const id = ++lastId;
      const entry: Entry = {
        hasStdin: hasStdin && tty === undefined,
        onStatus,
        started: Promise.withResolvers(),
        exited: Promise.withResolvers(),
        listener: hasListener ? Promise.withResolvers() : undefined,
        isStarted: false,
      };
      entry.listener?.promise.catch(() => undefined);
      entries.set(id, entry);
      // Only running processes keep the event loop of the gateway alive, not the helper itself.
      target.channel?.ref();
      target.send(
        { id, file, args, hasStdin, tty, input, files, hasListener, uid, cgroup } satisfies SpawnRequest,
        (error) => {
          if (error !== null) fail(id, 'EAGAIN');
        },
      );
      return entry.started.promise;
    },
    leaveCgroup(cgroup) {
      helper?.send({ leave: cgroup } satisfies LeaveRequest, () => {});
    },
    close() {
      helper?.disconnect();
      helper = undefined;
    },
  };

  function startHelperProcess(): ChildProcess {
    const started = startHelper(commandPrefix());
    helper = started;
    const onHelperEnd = (): void => {
      if (helper !== started && helper !== undefined) return;
      helper = undefined;
      for (const id of [...entries.keys()]) end(id, { code: null, signal: 'SIGKILL' });
    };
    started.once('error', onHelperEnd).once('exit', onHelperEnd);
    started.on('message', (message, handle) => {
      if (isReport(message)) receive(message, handle);
      else discard(handle);
    });
    started.unref();
    started.channel?.unref();
    return started;
  }

  function receive(report: SpawnReport, handle: SendHandle | undefined): void {
    const { id } = report;
    const entry = entries.get(id);
    if (entry === undefined) discard(handle);
    else if ('error' in report) fail(id, report.error);
    else if ('status' in report) entry.onStatus(report.status);
    else if ('exit' in report) end(id, report.exit);
    else if ('listener' in report) {
      if (handle instanceof Server) entry.listener?.resolve(handle);
      else entry.listener?.reject(noListener());
    } else {
      const socket = handle instanceof Socket ? handle : undefined;
      entry.pid = report.pid;
      // Without a socket, the process ended before its stream could be passed on.
      const stream = socket ?? new Socket().destroy();
      // An error before the caller adds a listener must not end the gateway.
      stream.on('error', () => {});
      entry[report.stream] = stream;
      resolveIfComplete(id, entry);
    }
  }

  /** Resolves the start when all streams of the process have arrived. */
  function resolveIfComplete(id: number, entry: Entry): void {
    const { pid, stdin, stdout, stderr, hasStdin, started, exited, listener } = entry;
    if (pid === undefined || stdout === undefined || stderr === undefined || (hasStdin && stdin === undefined)) return;
    // The process writes nothing to stdin, but the stream must be read for its end to be detected.
    stdin?.resume();
    entry.isStarted = true;
    started.resolve({
      pid,
      stdin,
      stdout,
      stderr,
      exited: exited.promise,
      listener: listener?.promise,
      kill: () => helper?.send({ id, kill: true } satisfies KillRequest, () => {}),
    });
  }

  function end(id: number, exit: Awaited<SpawnedProcess['exited']>): void {
    const entry = remove(id);
    // The helper died before all streams had arrived.
    if (entry?.isStarted === false) entry.started.reject(toError('EAGAIN'));
    entry?.stdin?.destroy();
    entry?.exited.resolve(exit);
    entry?.listener?.reject(noListener());
  }

  function fail(id: number, code: string): void {
    const entry = remove(id);
    for (const stream of [entry?.stdin, entry?.stdout, entry?.stderr]) stream?.destroy();
    entry?.started.reject(toError(code));
  }

  function remove(id: number): Entry | undefined {
    const entry = entries.get(id);
    entries.delete(id);
    if (entries.size === 0) helper?.channel?.unref();
    return entry;
  }
}

function toError(code: string): Error {
  return Object.assign(new Error(`cannot start a process: ${code}`), { code });
}

/** Closes a handle whose process is no longer waited for. */
function discard(handle: SendHandle | undefined): void {
  if (handle instanceof Socket) handle.destroy();
  else if (handle instanceof Server) handle.close();
}

function noListener(): Error {
  return new Error('the listening program in the sandbox did not start');
}

function isReport(message: unknown): message is SpawnReport {
  return typeof message === 'object' && message !== null && 'id' in message;
}
