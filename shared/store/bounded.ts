// A deadline and a signal around any asynchronous call, whichever part of it hangs.
import { RpcError } from '../errors.ts';
import type { CallOptions } from './store.ts';

const TIMEOUT_DEFAULT_MS = 10_000;

/**
 * What a bounded call may hand down: a signal that fires at the deadline or when the caller aborts, and the time it was
 * given.
 */
export interface Bounds {
  readonly signal: AbortSignal;
  readonly timeoutMs: number;
}

/**
 * Rejects with RpcError `unavailable` after `timeoutMs` and with the caller's reason when the caller aborts; the work
 * itself is aborted through `bounds.signal` and its later outcome is ignored.
 */
export async function bounded<R>(
  { signal, timeoutMs = TIMEOUT_DEFAULT_MS }: CallOptions,
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
    const timer = setTimeout(() => stop(new RpcError('unavailable', { cause: new Error('deadline') })), timeoutMs);
    const release = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
    };
    signal?.addEventListener('abort', onAbort, { once: true });
    start({ signal: controller.signal, timeoutMs }).then(resolve, reject).finally(release);
  });
}
