// Group commit of the embedded store: the commits of one iteration of the event loop share one database transaction;
// each commit is still atomic. Measured: 16 % of a prompt's processor time went to locks and pages of its own commits.
import { RpcError } from '../../errors.ts';
import { type CallOptions, Conflict, type Version } from '../store.ts';
import { isBusy, toStoreError } from './database.ts';
import type { Documents } from './documents.ts';
import type { Prepared } from './writes.ts';

/** Most commits in one transaction: other processes wait for its lock, and it blocks the event loop of this one. */
const TOGETHER_MAX = 64;
/** ... and most characters of their documents, for the same reasons; a larger commit is made alone. */
const TOGETHER_CHARS_MAX = 1 << 20;
/** Most waiting commits; more of them means that another process does not release its lock. */
const WAITING_MAX = 10_000;
const TIMEOUT_DEFAULT_MS = 10_000;
const BUSY_PAUSE_MS = 15;

export interface Commits {
  /** Versions in the order of the writes. Throws Conflict, the signal's reason, or RpcError `unavailable`. */
  commit(writes: readonly Prepared[], options: CallOptions): Promise<(Version | null)[]>;
  /** Runs the waiting commits now; they are refused if another process holds the lock. */
  close(): void;
}

interface Waiting {
  readonly writes: readonly Prepared[];
  readonly signal: AbortSignal | undefined;
  readonly endsAtMs: number;
  readonly resolve: (versions: (Version | null)[]) => void;
  readonly reject: (reason: unknown) => void;
}

type Made = { readonly versions: (Version | null)[] } | { readonly conflict: Conflict };

/** `onCommitted` is called for every commit before the promise of its caller resolves. */
export function createCommits(documents: Documents, onCommitted: (writes: readonly Prepared[]) => void): Commits {
  let waiting: Waiting[] = [];
  let armed = false;
  let closing = false;

  const arm = (): void => {
    if (armed) return;
    armed = true;
    setImmediate(flush);
  };
  const armLater = (): void => {
    if (armed) return;
    armed = true;
    setTimeout(flush, Math.random() * BUSY_PAUSE_MS);
  };

  function flush(): void {
    armed = false;
    const batch = takeBatch();
    let made: Made[];
    try {
      made = make(batch);
    } catch (error) {
      const isOver = ({ endsAtMs }: Waiting): boolean => closing || !isBusy(error) || performance.now() >= endsAtMs;
      for (const entry of batch.filter(isOver)) entry.reject(toStoreError(error));
      waiting = [...batch.filter((entry) => !isOver(entry)), ...waiting];
      if (waiting.length > 0) armLater();
      return;
    }
    if (waiting.length > 0) arm();
    for (const [index, { writes, resolve, reject }] of batch.entries()) {
      const outcome = made[index];
      if (outcome === undefined || 'conflict' in outcome) reject(outcome?.conflict);
      else {
        onCommitted(writes);
        resolve(outcome.versions);
      }
    }
  }

  function takeBatch(): Waiting[] {
    let count = 0;
    for (let chars = 0; count < Math.min(waiting.length, TOGETHER_MAX); count++) {
      chars += charsOf(waiting[count]?.writes ?? []);
      if (count > 0 && chars > TOGETHER_CHARS_MAX) break;
    }
    const taken = waiting.slice(0, count);
    waiting = waiting.slice(count);
    return taken.filter(({ signal, reject }) => {
      if (signal?.aborted) reject(signal.reason);
      return !signal?.aborted;
    });
  }

  function make(batch: readonly Waiting[]): Made[] {
    const [only] = batch;
    // All callers may have aborted.
    if (only === undefined) return [];
    // A single statement is a transaction by itself.
    if (batch.length === 1 && only.writes.length === 1) return [apply(only)];
    return documents.transaction('IMMEDIATE', () => batch.map(apply));
  }

  function apply({ writes }: Waiting): Made {
    try {
      const work = () => writes.map(documents.apply);
      return { versions: writes.length > 1 ? documents.nested(work) : work() };
    } catch (error) {
      if (error instanceof Conflict) return { conflict: error };
      throw error;
    }
  }

  return {
    commit: (writes, { signal, timeoutMs = TIMEOUT_DEFAULT_MS }) =>
      new Promise((resolve, reject) => {
        if (waiting.length >= WAITING_MAX) {
          reject(new RpcError('unavailable', { cause: new Error('embedded store: too many commits wait') }));
          return;
        }
        waiting.push({ writes, signal, endsAtMs: performance.now() + timeoutMs, resolve, reject });
        arm();
      }),
    close() {
      closing = true;
      while (waiting.length > 0) flush();
    },
  };
}

function charsOf(writes: readonly Prepared[]): number {
  return writes.reduce((sum, { json }) => sum + json.length, 0);
}
