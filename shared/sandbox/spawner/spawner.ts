// Starts processes through a small helper process. Starting a process copies the page tables of its parent, which would
// block a gateway of 100 MB for milliseconds; the helper has 50 MB and does not block the gateway. The helper passes
// the descriptors of the streams to the gateway, so no byte is read or copied on the way.
import type { ChildProcess, SendHandle } from 'node:child_process';
import { Server, Socket } from 'node:net';
import { startHelper } from './helper.ts';
import type { Cgroup, KillRequest, LeaveRequest, SpawnReport, SpawnRequest } from './spawn-messages.ts';
import { createSpawning, type SpawnedProcess, type Spawning } from './spawned-process.ts';

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

/**
 * The helper is started with the first process, and again after it has died; its processes die with it. `commandPrefix`
 * returns a prefix of its command line.
 */
export function createSpawner(commandPrefix: () => readonly string[] = () => []): Spawner {
  /** The processes that have been requested and have not ended, by the id of the request. */
  const spawnings = new Map<number, Spawning>();
  let helper: ChildProcess | undefined;
  let lastId = 0;

  return {
    spawn(file, args, { hasStdin, tty, input = '', files = [], hasListener = false, uid, cgroup, onStatus }) {
      const target = helper ?? startHelperProcess();
      const id = ++lastId;
      const spawning = createSpawning({
        hasStdin: hasStdin && tty === undefined,
        hasListener,
        onStatus,
        kill: () => helper?.send({ id, kill: true } satisfies KillRequest, () => {}),
      });
      spawnings.set(id, spawning);
      // Only running processes keep the event loop of the gateway alive, not the helper itself.
      target.channel?.ref();
      target.send(
        { id, file, args, hasStdin, tty, input, files, hasListener, uid, cgroup } satisfies SpawnRequest,
        (error) => {
          if (error !== null) remove(id)?.fail('EAGAIN');
        },
      );
      return spawning.started;
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
      for (const id of [...spawnings.keys()]) remove(id)?.end({ code: null, signal: 'SIGKILL' });
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
    const spawning = spawnings.get(id);
    if (spawning === undefined) discard(handle);
    else if ('error' in report) remove(id)?.fail(report.error);
    else if ('exit' in report) remove(id)?.end(report.exit);
    else spawning.receive(report, handle);
  }

  function remove(id: number): Spawning | undefined {
    const spawning = spawnings.get(id);
    spawnings.delete(id);
    if (spawnings.size === 0) helper?.channel?.unref();
    return spawning;
  }
}

/** Closes a handle whose process is no longer waited for. */
function discard(handle: SendHandle | undefined): void {
  if (handle instanceof Socket) handle.destroy();
  else if (handle instanceof Server) handle.close();
}

function isReport(message: unknown): message is SpawnReport {
  return typeof message === 'object' && message !== null && 'id' in message;
}
