// The app-servers of all keys on this machine: one per key, started when needed, ended when idle, old or grown too
// large. Bounded: when all are busy there is no further one.

import { readFile } from 'node:fs/promises';
import { orAbort } from '../../../async.ts';
import { RpcError } from '../../../errors.ts';
import type { CodexProcess } from './app-server.ts';

export interface PoolLimits {
  /** App-servers at a time. */
  readonly processesMax: number;
  /** Turns at a time on one of them. */
  readonly busyMax: number;
  readonly idleMs: number;
  /** Turns after which a process is replaced: its threads stay in its memory. */
  readonly turnsMax: number;
  /** Resident memory of its whole tree after which it is replaced. */
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
  readonly process: CodexProcess;
  /** Call once, when the turn is over. */
  release(): void;
}

export interface CodexPool {
  /** Whether the key has a process, or one that is starting. */
  has(keyId: string): boolean;
  /** Throws RpcError `unavailable` when too many are busy, whatever starting one throws, or the signal's reason. */
  borrow(keyId: string, signal: AbortSignal): Promise<Borrowed>;
  /** Ends all processes and waits for them. */
  close(): Promise<void>;
}

interface Entry {
  readonly keyId: string;
  readonly started: Promise<CodexProcess>;
  busy: number;
  turns: number;
  idleSinceMs: number;
  isRetired: boolean;
  timer: NodeJS.Timeout | undefined;
}

export function createPool(
  start: (keyId: string) => Promise<CodexProcess>,
  limits: PoolLimits = POOL_LIMITS,
): CodexPool {
  /** Those that take new turns. */
  const current = new Map<string, Entry>();
  /** All that run, retired ones too. */
  const entries = new Set<Entry>();
  let isClosed = false;

  return {
    has: (keyId) => current.has(keyId),
    async borrow(keyId, signal) {
      signal.throwIfAborted();
      const entry = take(keyId);
      try {
        const process = await orAbort(entry.started, signal);
        return { process, release: once(() => void release(entry, process)) };
      } catch (error) {
        entry.busy--;
        throw error;
      }
    },
    async close() {
      isClosed = true;
      await Promise.all([...entries].map(end));
    },
  };

  function take(keyId: string): Entry {
    if (isClosed) throw new RpcError('unavailable', { message: 'The gateway is stopping', retryAfterMs: 1_000 });
    let entry = current.get(keyId);
    if (entry === undefined) {
      makeRoom();
      entry = add(keyId);
    }
    if (entry.busy >= limits.busyMax) throw full();
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
    if (oldest === undefined) throw full();
    void end(oldest);
  }

  function add(keyId: string): Entry {
    const entry: Entry = {
      keyId,
      started: start(keyId),
      busy: 0,
      turns: 0,
      idleSinceMs: performance.now(),
      isRetired: false,
      timer: undefined,
    };
    current.set(keyId, entry);
    entries.add(entry);
    entry.started.then(
      ({ gone }) => gone.then(() => forget(entry)),
      () => forget(entry),
    );
    return entry;
  }

  async function release(entry: Entry, process: CodexProcess): Promise<void> {
    entry.busy--;
    if (entry.busy > 0) return;
    if (!entry.isRetired && (await residentBytes(process.pid)) > limits.residentBytesMax && entry.busy === 0)
      retire(entry);
    if (entry.busy > 0) return;
    if (entry.isRetired || isClosed) return void end(entry);
    entry.idleSinceMs = performance.now();
    clearTimeout(entry.timer);
    entry.timer = setTimeout(() => void end(entry), limits.idleMs);
    entry.timer.unref();
  }

  /** It finishes its turns and takes no new ones. */
  function retire(entry: Entry): void {
    entry.isRetired = true;
    if (current.get(entry.keyId) === entry) current.delete(entry.keyId);
  }

  function forget(entry: Entry): void {
    clearTimeout(entry.timer);
    retire(entry);
    entries.delete(entry);
  }

  async function end(entry: Entry): Promise<void> {
    retire(entry);
    // Its place is free at once; until it is gone there is one more.
    entries.delete(entry);
    await entry.started.then((process) => process.end()).catch(() => undefined);
  }
}

function full(): RpcError {
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
