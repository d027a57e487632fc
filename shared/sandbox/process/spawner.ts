// Starts processes through a small helper process. Starting a process copies the page tables of its parent: a gateway
// of 100 MB blocks for milliseconds, the helper's 50 MB are copied in another process. The streams are passed on: no
// byte is read or copied on the way.
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
  /** The listening socket that the process sent (`hasListener`). Rejects when it ends without sending one. */
  readonly listener: Promise<Server> | undefined;
  /** Resolves when the process has ended, after the last text on its descriptor 3. Never rejects. */
  readonly exited: Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>;
  kill(): void;
}

export interface SpawnOptions {
  readonly hasStdin: boolean;
  /** Path of a terminal: the process gets it as descriptors 0 to 2, and the streams here are closed ones. */
  readonly tty?: string | undefined;
  /** What the process reads from descriptor 4. */
  readonly input?: string;
  /** Files that the process has open from descriptor 5 on, for reading. */
  readonly files?: readonly string[];
  /** Whether the descriptor after `files` is a channel on which the process sends a listening socket. */
  readonly hasListener?: boolean;
  readonly uid?: number | undefined;
  /** The control group of the process. */
  readonly cgroup?: Cgroup | undefined;
  onStatus(text: string): void;
}

export interface Spawner {
  /**
   * Starts a program with an empty environment, at `/`, as user and group `uid` when given; `onStatus` receives what it
   * writes to descriptor 3. It inherits only the descriptors named here. Rejects with an Error that has the `code` of
   * the failure (E2BIG, ENOENT, EAGAIN ...).
   */
  spawn(file: string, args: readonly string[], options: SpawnOptions): Promise<SpawnedProcess>;
  /** Makes the helper leave this control group, if in it. */
  leave(cgroup: string): void;
  /** Ends the helper, and with it all running processes. */
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
}

/**
 * The helper starts with the first process, and again when it has died: its processes have ended then, too. `before()`
 * is the prefix of its command line.
 */
export function createSpawner(before: () => readonly string[] = () => []): Spawner {
  const entries = new Map<number, Entry>();
  let helper: ChildProcess | undefined;
  let lastId = 0;

  return {
    spawn(file, args, { hasStdin, tty, input = '', files = [], hasListener = false, uid, cgroup, onStatus }) {
      const to = helper ?? open();
      const id = ++lastId;
      const entry: Entry = {
        hasStdin: hasStdin && tty === undefined,
        onStatus,
        started: Promise.withResolvers(),
        exited: Promise.withResolvers(),
        listener: hasListener ? Promise.withResolvers() : undefined,
      };
      entry.listener?.promise.catch(() => undefined);
      entries.set(id, entry);
      // The helper alone does not keep the gateway alive; its processes do.
      to.channel?.ref();
      to.send(
        { id, file, args, hasStdin, tty, input, files, hasListener, uid, cgroup } satisfies SpawnRequest,
        (error) => {
          if (error !== null) fail(id, 'EAGAIN');
        },
      );
      return entry.started.promise;
    },
    leave(cgroup) {
      helper?.send({ leave: cgroup } satisfies LeaveRequest, () => {});
    },
    close() {
      helper?.disconnect();
      helper = undefined;
    },
  };

  function open(): ChildProcess {
    const opened = startHelper(before());
    helper = opened;
    const lost = (): void => {
      if (helper !== opened && helper !== undefined) return;
      helper = undefined;
      for (const id of [...entries.keys()]) end(id, { code: null, signal: 'SIGKILL' });
    };
    opened.once('error', lost).once('exit', lost);
    opened.on('message', (message, handle) => {
      if (isReport(message)) receive(message, handle);
      else discard(handle);
    });
    opened.unref();
    opened.channel?.unref();
    return opened;
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
      // Without a stream: the process ended before the stream could be passed on.
      const stream = socket ?? new Socket().destroy();
      // An error before the caller listens must not end the gateway.
      stream.on('error', () => {});
      entry[report.stream] = stream;
      settle(id, entry);
    }
  }

  /** The process is complete when all of its streams have arrived. */
  function settle(id: number, entry: Entry): void {
    const { pid, stdin, stdout, stderr, hasStdin, started, exited, listener } = entry;
    if (pid === undefined || stdout === undefined || stderr === undefined || (hasStdin && stdin === undefined)) return;
    // Nothing is written to it; unread, its end would not be detected.
    stdin?.resume();
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

  function end(id: number, how: Awaited<SpawnedProcess['exited']>): void {
    const entry = remove(id);
    // The helper died before the process was complete; no effect afterwards.
    entry?.started.reject(toError('EAGAIN'));
    entry?.stdin?.destroy();
    entry?.exited.resolve(how);
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

/** A handle that has no owner any more. */
function discard(handle: SendHandle | undefined): void {
  if (handle instanceof Socket) handle.destroy();
  else if (handle instanceof Server) handle.close();
}

function noListener(): Error {
  return new Error('the program that listens inside did not start');
}

function isReport(message: unknown): message is SpawnReport {
  return typeof message === 'object' && message !== null && 'id' in message;
}
