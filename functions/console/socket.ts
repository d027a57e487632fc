// The one WebSocket of the page: opened by ticket, reopened after every cut, calls in flight rejected when it closes.
// Names no method but the ticket's.
import * as z from 'zod/mini';
import { connectionLost, type Failure, toFailure } from './failure.ts';
import { type CallOptions, type OnNotification, toResult } from './http.ts';
import type { Limits } from './limits.ts';
import { createValue, type Value } from './view.ts';

/** `absent`: this gateway has no WebSocket here (Firebase Hosting passes none on); streams then go over HTTP. */
export type Link = 'connecting' | 'open' | 'reconnecting' | 'absent';

export interface Socket {
  readonly link: Value<Link>;
  /** Rejects with `connection_lost` when the socket goes before the answer came. */
  call(method: string, params: object, options?: CallOptions): Promise<unknown>;
  /** Receives every notification until the returned function is called. */
  listen(onNotification: OnNotification): () => void;
  /** Resolves when there is a socket, or none to wait for. */
  settled(signal?: AbortSignal): Promise<void>;
  /** Tries at once. */
  retry(): void;
  close(): void;
}

export interface SocketOptions {
  readonly url: string;
  readonly limits: Limits;
  /** Subprotocols with a fresh ticket. */
  readonly openTicket: () => Promise<readonly string[]>;
  readonly onUnauthorized: () => void;
}

const Notification = z.object({ method: z.string(), params: z.unknown() });
const Answer = z.object({ id: z.number() });
const OPEN_MS = 10_000;
const DELAY_MIN_MS = 250;
const DELAY_MAX_MS = 15_000;
/** So many failures before the first success, and this place has no WebSocket. */
const FIRST_TRIES = 3;

export function createSocket({ url, limits, openTicket, onUnauthorized }: SocketOptions): Socket {
  const link = createValue<Link>('connecting');
  const listeners = new Set<OnNotification>();
  const pending = new Map<number, (message: unknown) => void>();
  let socket: WebSocket | undefined;
  let lastId = 0;
  let failures = 0;
  let everOpen = false;
  let stopped = false;
  let timer: ReturnType<typeof setTimeout> | undefined;

  async function open(): Promise<void> {
    clearTimeout(timer);
    timer = undefined;
    try {
      const protocols = await openTicket();
      if (stopped) return;
      watch(new WebSocket(url, [...protocols]));
    } catch (error) {
      const failure = toFailure(error);
      if (failure.reason === 'unauthorized') onUnauthorized();
      else again(failure);
    }
  }

  function watch(candidate: WebSocket): void {
    socket = candidate;
    const late = setTimeout(() => candidate.close(), OPEN_MS);
    candidate.onopen = () => {
      clearTimeout(late);
      failures = 0;
      everOpen = true;
      link.set('open');
    };
    candidate.onmessage = ({ data }) => {
      if (typeof data === 'string') receive(JSON.parse(data));
    };
    candidate.onclose = () => {
      clearTimeout(late);
      if (socket !== candidate) return;
      socket = undefined;
      for (const settle of [...pending.values()]) settle(undefined);
      again(undefined);
    };
  }

  function receive(message: unknown): void {
    const notification = Notification.safeParse(message);
    if (notification.success) {
      for (const listener of [...listeners]) listener(notification.data.method, notification.data.params);
      return;
    }
    const answer = Answer.safeParse(message);
    if (answer.success) pending.get(answer.data.id)?.(message);
  }

  function again(failure: Failure | undefined): void {
    if (stopped) return;
    failures += 1;
    if (!everOpen && failures >= FIRST_TRIES) {
      link.set('absent');
      return;
    }
    link.set(everOpen ? 'reconnecting' : 'connecting');
    const delayMs = Math.min(DELAY_MAX_MS, DELAY_MIN_MS * 2 ** (failures - 1)) * (0.5 + Math.random() / 2);
    timer = setTimeout(() => void open(), Math.max(delayMs, failure?.facts.retryAfterMs ?? 0));
  }

  // A machine that wakes up or comes back into its network need not wait for the timer, nor for TCP to notice.
  const onOnline = (): void => {
    if (timer !== undefined) void open();
  };
  const onOffline = (): void => socket?.close();
  window.addEventListener('online', onOnline);
  window.addEventListener('offline', onOffline);
  void open();

  return {
    link,
    call(method, params, { signal, timeoutMs } = {}) {
      const current = socket;
      if (current === undefined || current.readyState !== WebSocket.OPEN) return Promise.reject(connectionLost());
      const id = ++lastId;
      limits.spend();
      return new Promise((resolve, reject) => {
        const end =
          timeoutMs === undefined
            ? signal
            : AbortSignal.any([AbortSignal.timeout(timeoutMs), ...(signal ? [signal] : [])]);
        const onAbort = (): void => finish(() => reject(toFailure(end?.reason)));
        const finish = (settle: () => void): void => {
          pending.delete(id);
          end?.removeEventListener('abort', onAbort);
          settle();
        };
        pending.set(id, (message) =>
          finish(() => {
            try {
              if (message === undefined) throw connectionLost();
              resolve(toResult(message, limits));
            } catch (error) {
              reject(error);
            }
          }),
        );
        if (end?.aborted) return onAbort();
        end?.addEventListener('abort', onAbort, { once: true });
        current.send(JSON.stringify({ jsonrpc: '2.0', method, params, id }));
      });
    },
    listen(onNotification) {
      listeners.add(onNotification);
      return () => void listeners.delete(onNotification);
    },
    settled(signal) {
      const isSettled = (): boolean => link.current === 'open' || link.current === 'absent';
      if (isSettled()) return Promise.resolve();
      return new Promise((resolve, reject) => {
        const leave = link.subscribe(() => {
          if (!isSettled()) return;
          leave();
          resolve();
        });
        signal?.addEventListener('abort', () => {
          leave();
          reject(toFailure(signal.reason));
        });
      });
    },
    retry() {
      failures = 0;
      if (socket === undefined) void open();
    },
    close() {
      stopped = true;
      clearTimeout(timer);
      window.removeEventListener('online', onOnline);
      window.removeEventListener('offline', onOffline);
      socket?.close();
    },
  };
}
