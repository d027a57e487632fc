// The pending requests of one client, by id, each with a deadline.
import { RpcError } from '../../../errors.ts';

/** The deadline is long, because Codex runs at a lower priority than the gateway, and the machine may be busy. */
const REQUEST_TIMEOUT_MS = 30_000;

interface Answer {
  readonly result?: unknown;
  readonly error?: unknown;
}

export interface PendingRequests {
  /** Resolves with the response. Rejects after REQUEST_TIMEOUT_MS, when the signal aborts, or by `failAll`. */
  send(method: string, signal: AbortSignal | undefined, write: (id: number) => void): Promise<Answer>;
  /** Settles a request. A response without a pending request is ignored. */
  settle(id: unknown, answer: Answer): void;
  failAll(error: Error): void;
}

export function createPendingRequests(): PendingRequests {
  const waiting = new Map<unknown, { settle(answer: Answer): void; fail(error: Error): void }>();
  let lastId = 0;
  return {
    send: (method, signal, write) =>
      new Promise((resolve, reject) => {
        const id = ++lastId;
        const fail = (error: unknown): void => {
          done();
          reject(error);
        };
        const aborted = (): void => fail(signal?.reason);
        const timer = setTimeout(() => fail(timeout(method)), REQUEST_TIMEOUT_MS);
        const done = (): void => {
          waiting.delete(id);
          clearTimeout(timer);
          signal?.removeEventListener('abort', aborted);
        };
        signal?.addEventListener('abort', aborted, { once: true });
        waiting.set(id, {
          fail,
          settle(answer) {
            done();
            resolve(answer);
          },
        });
        write(id);
      }),
    settle: (id, answer) => waiting.get(id)?.settle(answer),
    failAll(error) {
      for (const { fail } of waiting.values()) fail(error);
      waiting.clear();
    },
  };
}

function timeout(method: string): RpcError {
  return new RpcError('upstream_timeout', { message: 'Codex did not answer', data: { provider: 'codex', method } });
}
