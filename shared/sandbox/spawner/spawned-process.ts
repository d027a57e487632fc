// One process that the helper starts: collects its streams as they arrive, and reports its end.
import type { SendHandle } from 'node:child_process';
import { Server, Socket } from 'node:net';
import type { Readable, Writable } from 'node:stream';
import type { SpawnReport } from './spawn-messages.ts';

export interface SpawnedProcess {
  readonly pid: number;
  readonly stdin: Writable | undefined;
  readonly stdout: Readable;
  readonly stderr: Readable;
  /** The listening socket that the process sent (`hasListener`). Rejects if the process ends without sending one. */
  readonly listener: Promise<Server> | undefined;
  /** Resolves when the process has ended and its last status text was received. Never rejects. */
  readonly exited: Promise<Exit>;
  kill(): void;
}

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** A report of the helper on a process that has been requested and has not ended. */
export type ProgressReport = Exclude<SpawnReport, { readonly error: string } | { readonly exit: Exit }>;

export interface Spawning {
  /** Resolves when all streams of the process have arrived. */
  readonly started: Promise<SpawnedProcess>;
  receive(report: ProgressReport, handle: SendHandle | undefined): void;
  /** The process has ended, or the helper has died. */
  end(exit: Exit): void;
  /** The process could not be started. `code`: as EAGAIN. */
  fail(code: string): void;
}

export interface SpawningOptions {
  readonly hasStdin: boolean;
  readonly hasListener: boolean;
  onStatus(text: string): void;
  kill(): void;
}

export function createSpawning({ hasStdin, hasListener, onStatus, kill }: SpawningOptions): Spawning {
  const started = Promise.withResolvers<SpawnedProcess>();
  const exited = Promise.withResolvers<Exit>();
  const listener = hasListener ? Promise.withResolvers<Server>() : undefined;
  listener?.promise.catch(() => undefined);
  const streams: { stdin?: Socket; stdout?: Socket; stderr?: Socket } = {};
  let isStarted = false;

  const resolveIfComplete = (pid: number): void => {
    const { stdin, stdout, stderr } = streams;
    if (stdout === undefined || stderr === undefined || (hasStdin && stdin === undefined)) return;
    // The process writes nothing to stdin, but the stream must be read for its end to be detected.
    stdin?.resume();
    isStarted = true;
    started.resolve({
      pid,
      stdin,
      stdout,
      stderr,
      exited: exited.promise,
      listener: listener?.promise,
      kill,
    });
  };

  return {
    started: started.promise,

    receive(report, handle) {
      if ('status' in report) onStatus(report.status);
      else if ('listener' in report) {
        if (handle instanceof Server) listener?.resolve(handle);
        else listener?.reject(noListener());
      } else {
        // Without a socket, the process ended before its stream could be passed on.
        const stream = handle instanceof Socket ? handle : new Socket().destroy();
        // An error before the caller adds a listener must not end the gateway.
        stream.on('error', () => {});
        streams[report.stream] = stream;
        resolveIfComplete(report.pid);
      }
    },

    end(exit) {
      // The helper died before all streams had arrived.
      if (!isStarted) started.reject(toError('EAGAIN'));
      streams.stdin?.destroy();
      exited.resolve(exit);
      listener?.reject(noListener());
    },

    fail(code) {
      for (const stream of Object.values(streams)) stream.destroy();
      started.reject(toError(code));
    },
  };
}

function toError(code: string): Error {
  return Object.assign(new Error(`cannot start a process: ${code}`), { code });
}

function noListener(): Error {
  return new Error('the listening program in the sandbox did not start');
}
