// The app-servers on this machine: one for each owner and link (gateway process). They are started when needed, and
// ended when they are idle, old or too large. Their number over all links is bounded; when all are busy, no further one
// is started.
import { readFile } from 'node:fs/promises';
import { orAbort } from '../async.ts';
import { RpcError } from '../errors.ts';
import type { AppServer } from './app-server.ts';

export interface PoolLimits {
  /** Maximum number of app-servers. */
  readonly processesMax: number;
  /** Maximum number of concurrent turns on one of them. */
  readonly busyMax: number;
  readonly idleMs: number;
  /** Turns after which an app-server is replaced, because it keeps its threads in memory. */
  readonly turnsMax: number;
  /** Resident memory of all its processes above which it is replaced. */
  readonly residentBytesMax: number;
}

export const POOL_LIMITS: PoolLimits = {
  processesMax: 8,
  busyMax: 16,
  idleMs: 300_000,
  turnsMax: 500,
  residentBytesMax: 384 << 20,
};

export interface Borrowed {
  readonly appServer: AppServer;
  /** Call it once, when the turn is over. */
  release(): void;
}

/** Identifies an app-server. Links never share one. */
export interface PoolKey {
  readonly owner: string;
  readonly link: string;
}

export interface CodexPool {
  /** Throws RpcError `unavailable` when too many are busy, the error of a failed start, or the signal's reason. */
  borrow(key: PoolKey, signal: AbortSignal): Promise<Borrowed>;
  /**
   * Ends the app-servers of an owner that were started before `beforeMs` (of `performance.now()`). With `isForced` also
   * those with turns; without, they take no new ones and end after them.
   */
  endOwner(owner: string, beforeMs: number, isForced: boolean): Promise<void>;
  /** Ends the app-servers of a link and waits for their end. */
  endLink(link: string): Promise<void>;
  /** Ends all app-servers and waits for their end. */
  close(): Promise<void>;
}

interface Entry {
  readonly key: PoolKey;
  readonly startedMs: number;
  readonly started: Promise<AppServer>;
  busy: number;
  turns: number;
  idleSinceMs: number;
  isRetired: boolean;
  timer: NodeJS.Timeout | undefined;
}

export function createPool(start: (owner: string) => Promise<AppServer>, limits: PoolLimits = POOL_LIMITS): CodexPool {
  /** App-servers that accept new turns. */
  const current = new Map<string, Entry>();
  /** All running app-servers, including those that only finish their turns. */
  const entries = new Set<Entry>();
  /** App-servers that are ending and have no entry any more. */
  const ending = new Set<Promise<void>>();
  let isClosed = false;

  return {
    async borrow(key, signal) {
      signal.throwIfAborted();
      const entry = take(key);
      try {
        const appServer = await orAbort(entry.started, signal);
        return { appServer, release: once(() => void release(entry, appServer)) };
      } catch (error) {
        entry.busy--;
        throw error;
      }
    },
    async endOwner(owner, beforeMs, isForced) {
      const old = [...entries].filter(({ key, startedMs }) => key.owner === owner && startedMs <= beforeMs);
      for (const entry of old) retire(entry);
      await Promise.all(old.filter(({ busy }) => isForced || busy === 0).map(end));
    },
    async endLink(link) {
      await Promise.all([...entries].filter(({ key }) => key.link === link).map(end));
    },
    async close() {
      isClosed = true;
      await Promise.all([...[...entries].map(end), ...ending]);
    },
  };

  function take(key: PoolKey): Entry {
    if (isClosed) throw new RpcError('unavailable', { message: 'The gateway is stopping', retryAfterMs: 1_000 });
    let entry = current.get(nameOf(key));
    if (entry === undefined) {
      makeRoom();
      entry = add(key);
    }
    if (entry.busy >= limits.busyMax) throw tooManyTurns();
    clearTimeout(entry.timer);
    entry.busy++;
    entry.turns++;
    if (entry.turns >= limits.turnsMax) retire(entry);
    return entry;
  }

  function makeRoom(): void {
    if (entries.size < limits.processesMax) return;
    const idle = [...entries].filter(({ busy }) => busy === 0).sort((a, b) => a.idleSinceMs - b.idleSinceMs);
    const [oldest] = idle;
    if (oldest === undefined) throw tooManyTurns();
    void end(oldest);
  }

  function add(key: PoolKey): Entry {
    const startedMs = performance.now();
    const entry: Entry = {
      key,
      startedMs,
      started: start(key.owner),
      busy: 0,
      turns: 0,
      idleSinceMs: startedMs,
      isRetired: false,
      timer: undefined,
    };
    current.set(nameOf(key), entry);
    entries.add(entry);
    entry.started.then(
      ({ gone }) => gone.then(() => forget(entry)),
      () => forget(entry),
    );
    return entry;
  }

  async function release(entry: Entry, appServer: AppServer): Promise<void> {
    entry.busy--;
    if (entry.busy > 0) return;
    if (!entry.isRetired && (await residentBytes(appServer.pid)) > limits.residentBytesMax && entry.busy === 0)
      retire(entry);
    if (entry.busy > 0) return;
    if (entry.isRetired || isClosed) return void end(entry);
    entry.idleSinceMs = performance.now();
    clearTimeout(entry.timer);
    entry.timer = setTimeout(() => void end(entry), limits.idleMs);
    entry.timer.unref();
  }

  /** The app-server finishes its turns and accepts no new ones. */
  function retire(entry: Entry): void {
    entry.isRetired = true;
    const name = nameOf(entry.key);
    if (current.get(name) === entry) current.delete(name);
  }

  function forget(entry: Entry): void {
    clearTimeout(entry.timer);
    retire(entry);
    entries.delete(entry);
  }

  async function end(entry: Entry): Promise<void> {
    retire(entry);
    // Its slot is free immediately, so until the app-server has ended, one more than the limit may run.
    entries.delete(entry);
    const ended = entry.started.then((appServer) => appServer.end()).catch(() => undefined);
    ending.add(ended);
    await ended;
    ending.delete(ended);
  }
}

function nameOf({ owner, link }: PoolKey): string {
  return JSON.stringify([owner, link]);
}

function tooManyTurns(): RpcError {
  return new RpcError('unavailable', { message: 'Too many Codex turns are running', retryAfterMs: 1_000 });
}

/** Resident memory of a process and all its descendants, as Linux counts; 0 where it cannot be read. */
export async function residentBytes(pid: number): Promise<number> {
  try {
    const [status, children] = await Promise.all([
      readFile(`/proc/${pid}/status`, 'utf8'),
      readFile(`/proc/${pid}/task/${pid}/children`, 'utf8'),
    ]);
    const own = Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1] ?? 0) * 1024;
    const below = await Promise.all(
      children
        .split(' ')
        .filter(Boolean)
        .map((child) => residentBytes(Number(child))),
    );
    return below.reduce((sum, bytes) => sum + bytes, own);
  } catch {
    return 0;
  }
}

function once(work: () => void): () => void {
  let isDone = false;
  return () => {
    if (isDone) return;
    isDone = true;
    work();
  };
}
