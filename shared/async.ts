// Deadlines and aborts for asynchronous work, also for libraries without an AbortSignal: the wait ends, and the work
// continues in the background.
import { RpcError } from './errors.ts';

const TIMEOUT_DEFAULT_MS = 10_000;
/** Work of several milliseconds runs in slices of about this length. */
const SLICE_MS = 5;

let lastTurn: Promise<unknown> = Promise.resolve();

/**
 * Resolves in an iteration of the event loop that no other caller of it shares. All work of several milliseconds waits
 * for it before each slice: an iteration, for which every other request waits, then contains one slice, however many
 * calls run at a time.
 */
export function nextHeavyTurn(): Promise<void> {
  const turn = lastTurn.then(() => new Promise<void>((resolve) => setImmediate(resolve)));
  lastTurn = turn;
  return turn;
}

/** Returns a function to call between pieces of work; it waits for the next turn once the pieces have taken a slice. */
export function createSlices(): () => Promise<void> {
  let startedMs = performance.now();
  return async () => {
    if (performance.now() - startedMs < SLICE_MS) return;
    await nextHeavyTurn();
    startedMs = performance.now();
  };
}

/** A signal that aborts after `timeoutMs`, or earlier with `signal`. */
export function deadline(timeoutMs: number, signal?: AbortSignal | null): AbortSignal {
  const timeout = AbortSignal.timeout(timeoutMs);
  return signal == null ? timeout : AbortSignal.any([signal, timeout]);
}

/**
 * Settles as `work` does, or rejects with the signal's reason as soon as it aborts. A later rejection of `work` is
 * ignored.
 */
export function orAbort<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return work;
  return new Promise((resolve, reject) => {
    const onAbort = (): void => reject(signal.reason);
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}

/** Whether `work` resolved or rejected within `timeoutMs`. Never rejects. */
export async function settledWithin(timeoutMs: number, work: Promise<unknown>): Promise<boolean> {
  const { promise: late, resolve } = Promise.withResolvers<false>();
  const timer = setTimeout(() => resolve(false), timeoutMs);
  const settled = work.then(
    () => true,
    () => true,
  );
  const isInTime = await Promise.race([settled, late]);
  clearTimeout(timer);
  return isInTime;
}

/** Resolves after `delayMs`; rejects with the signal's reason when it aborts first. */
export function pause(delayMs: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const onAbort = (): void => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', onAbort);
      resolve();
    }, delayMs);
    if (signal?.aborted) onAbort();
    else signal?.addEventListener('abort', onAbort, { once: true });
  });
}

/**
 * Argument of the work of `bounded`: a signal that aborts at the deadline or with the caller's signal, and the deadline
 * in milliseconds.
 */
export interface Bounds {
  readonly signal: AbortSignal;
  readonly timeoutMs: number;
}

export interface BoundedOptions {
  readonly signal?: AbortSignal | undefined;
  /** Default: 10 s. */
  readonly timeoutMs?: number | undefined;
  /** Default: RpcError `unavailable`. */
  readonly toTimeout?: () => unknown;
}

/**
 * Rejects with `toTimeout()` after `timeoutMs` and with the caller's reason when the caller aborts; the work itself is
 * aborted through `bounds.signal` and its later outcome is ignored. Unlike `deadline` it leaves no timer behind.
 */
export async function bounded<R>(
  { signal, timeoutMs = TIMEOUT_DEFAULT_MS, toTimeout = unavailable }: BoundedOptions,
  start: (bounds: Bounds) => Promise<R>,
): Promise<R> {
  signal?.throwIfAborted();
  const controller = new AbortController();
  return new Promise<R>((resolve, reject) => {
    const stop = (reason: unknown): void => {
      release();
      reject(reason);
      controller.abort(reason);
    };
    const onAbort = (): void => stop(signal?.reason);
    const timer = setTimeout(() => stop(toTimeout()), timeoutMs);
    const release = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
    };
    signal?.addEventListener('abort', onAbort, { once: true });
    start({ signal: controller.signal, timeoutMs }).then(resolve, reject).finally(release);
  });
}

function unavailable(): RpcError {
  return new RpcError('unavailable', { cause: new Error('deadline') });
}
