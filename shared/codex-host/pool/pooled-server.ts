// One app-server of the pool: counts its turns, and ends it when it is idle, old or too large.
import { orAbort } from '../../async.ts';
import { RpcError } from '../../errors.ts';
import type { AppServer } from '../app-server/app-server.ts';
import { residentBytes } from './resident-bytes.ts';

export interface ServerLimits {
  /** Maximum number of concurrent turns. */
  readonly busyMax: number;
  readonly idleMs: number;
  /** Turns after which an app-server is replaced, because it keeps its threads in memory. */
  readonly turnsMax: number;
  /** Resident memory of all its processes above which it is replaced. */
  readonly residentBytesMax: number;
}

export interface Borrowed {
  readonly appServer: AppServer;
  /** Call it once, when the turn is over. */
  release(): void;
}

export interface PooledServer {
  /** `performance.now()` of its start. */
  readonly startedMs: number;
  /** Number of turns that run on it. */
  readonly busy: number;
  /** `performance.now()` since which no turn has run on it. */
  readonly idleSinceMs: number;
  /** Throws RpcError `unavailable` when too many turns run, the error of a failed start, or the signal's reason. */
  borrow(signal: AbortSignal): Promise<Borrowed>;
  /** The app-server finishes its turns, accepts no new ones, and ends. */
  retire(): void;
  end(): Promise<void>;
}

export interface PooledServerEvents {
  /** It accepts no new turns. */
  onRetired(server: PooledServer): void;
  /** It is being ended; `ended` resolves when it has ended. */
  onEnding(server: PooledServer, ended: Promise<void>): void;
  /** It has ended by itself, or could not be started. */
  onGone(server: PooledServer): void;
}

/** Calls `start` immediately. */
export function createPooledServer(
  start: () => Promise<AppServer>,
  limits: ServerLimits,
  events: PooledServerEvents,
): PooledServer {
  const startedMs = performance.now();
  const started = start();
  let busy = 0;
  let turns = 0;
  let idleSinceMs = startedMs;
  let isRetired = false;
  let timer: NodeJS.Timeout | undefined;

  const retire = (): void => {
    isRetired = true;
    events.onRetired(server);
  };

  const end = (): Promise<void> => {
    retire();
    const ended = started.then((appServer) => appServer.end()).catch(() => undefined);
    events.onEnding(server, ended);
    return ended;
  };

  const gone = (): void => {
    clearTimeout(timer);
    retire();
    events.onGone(server);
  };

  const take = (): void => {
    if (busy >= limits.busyMax) throw tooManyTurns();
    clearTimeout(timer);
    busy++;
    turns++;
    if (turns >= limits.turnsMax) retire();
  };

  const release = async ({ pid }: AppServer): Promise<void> => {
    busy--;
    if (busy === 0 && !isRetired && (await residentBytes(pid)) > limits.residentBytesMax && busy === 0) retire();
    endIfUnused();
  };

  /** Ends a retired app-server after its turns, any other one when it is idle. */
  const endIfUnused = (): void => {
    if (busy > 0) return;
    if (isRetired) return void end();
    idleSinceMs = performance.now();
    clearTimeout(timer);
    timer = setTimeout(() => void end(), limits.idleMs);
    timer.unref();
  };

  const server: PooledServer = {
    startedMs,
    get busy() {
      return busy;
    },
    get idleSinceMs() {
      return idleSinceMs;
    },
    async borrow(signal) {
      take();
      try {
        const appServer = await orAbort(started, signal);
        return { appServer, release: once(() => void release(appServer)) };
      } catch (error) {
        busy--;
        endIfUnused();
        throw error;
      }
    },
    retire,
    end,
  };
  started.then((appServer) => appServer.gone.then(gone), gone);
  return server;
}

export function tooManyTurns(): RpcError {
  return new RpcError('unavailable', { message: 'Too many Codex turns are running', retryAfterMs: 1_000 });
}

function once(work: () => void): () => void {
  let isDone = false;
  return () => {
    if (isDone) return;
    isDone = true;
    work();
  };
}
