// A WebSocket that is kept open: it is opened with a ticket, reopened after every lost connection, and shared by all
// calls of a page.
import { GatewayError, networkError } from '../gateway-error.ts';
import { type Connection, type OnNotification, openConnection, type SocketConstructor } from './connection.ts';
import type { Endpoint } from './http.ts';
import { requestTicket } from './ticket.ts';
import { startDeadline } from './timer.ts';

/** `absent`: no WebSocket reaches this gateway (Firebase Hosting forwards none). */
export type SocketState = 'connecting' | 'open' | 'reconnecting' | 'absent';

export interface KeptSocketOptions {
  readonly endpoint: Endpoint;
  readonly socketUrl: string;
  readonly Socket: SocketConstructor;
  readonly onState: (state: SocketState) => void;
  /** Receives the error of every attempt. After `unauthorized` there is no other attempt. */
  readonly onError: (error: unknown) => void;
}

const OPEN_MS = 10_000;
const DELAY_MIN_MS = 250;
const DELAY_MAX_MS = 15_000;
/** After this many failures without a success the state is `absent`. */
const FIRST_TRIES = 3;

export class KeptSocket {
  readonly #options: KeptSocketOptions;
  readonly #listeners = new Set<OnNotification>();
  readonly #waiters = new Set<() => void>();
  readonly #closed = new AbortController();
  #state: SocketState = 'connecting';
  #connection: Connection | undefined;
  #isOpening = false;
  #failures = 0;
  #everOpen = false;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(options: KeptSocketOptions) {
    this.#options = options;
    void this.#open();
  }

  get state(): SocketState {
    return this.#state;
  }

  /** The open connection. Throws GatewayError `network` when there is none. */
  current(): Connection {
    if (this.#connection === undefined) throw networkError('there is no connection');
    return this.#connection;
  }

  /** Passes every notification to `onNotification`, on this connection and on the next ones. */
  listen(onNotification: OnNotification): () => void {
    this.#listeners.add(onNotification);
    return () => void this.#listeners.delete(onNotification);
  }

  /** Resolves when the state is `open` or `absent`. Rejects with the reason of `signal`. */
  settled(signal: AbortSignal): Promise<void> {
    if (this.#isSettled()) return Promise.resolve();
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        this.#waiters.delete(onSettled);
        signal.removeEventListener('abort', onAbort);
      };
      const onSettled = (): void => {
        leave();
        resolve();
      };
      const onAbort = (): void => {
        leave();
        reject(signal.reason);
      };
      this.#waiters.add(onSettled);
      if (signal.aborted) onAbort();
      else signal.addEventListener('abort', onAbort, { once: true });
    });
  }

  /** Connects at once instead of after the current delay. */
  retry(): void {
    this.#failures = 0;
    void this.#open();
  }

  /** Closes the current connection; the next one is opened after the delay. */
  cut(): void {
    this.#connection?.close();
  }

  /** Closes the WebSocket; it is not reopened. */
  close(): void {
    this.#closed.abort(networkError('the WebSocket is closed'));
    clearTimeout(this.#timer);
    this.#connection?.close();
  }

  async #open(): Promise<void> {
    if (this.#isOpening || this.#connection !== undefined || this.#closed.signal.aborted) return;
    this.#isOpening = true;
    clearTimeout(this.#timer);
    try {
      this.#connection = await this.#connect();
      this.#failures = 0;
      this.#everOpen = true;
      this.#setState('open');
    } catch (error) {
      if (this.#closed.signal.aborted) return;
      this.#options.onError(error);
      if (!(error instanceof GatewayError && error.reason === 'unauthorized')) this.#openLater(error);
    } finally {
      this.#isOpening = false;
    }
  }

  async #connect(): Promise<Connection> {
    const { endpoint, socketUrl, Socket } = this.#options;
    const { signal, end } = startDeadline(OPEN_MS, this.#closed.signal);
    const onEnd = (): void => {
      this.#connection = undefined;
      this.#openLater(undefined);
    };
    try {
      const protocols = await requestTicket(endpoint, signal);
      signal.throwIfAborted();
      const connection = await openConnection(new Socket(socketUrl, protocols), signal, { onEnd });
      connection.listen((notification, chars) => {
        for (const listener of [...this.#listeners]) listener(notification, chars);
      });
      return connection;
    } finally {
      end();
    }
  }

  #openLater(error: unknown): void {
    if (this.#closed.signal.aborted) return;
    this.#failures += 1;
    if (!this.#everOpen && this.#failures >= FIRST_TRIES) {
      this.#setState('absent');
      return;
    }
    this.#setState(this.#everOpen ? 'reconnecting' : 'connecting');
    const longestMs = Math.min(DELAY_MAX_MS, DELAY_MIN_MS * 2 ** (this.#failures - 1));
    const delayMs = longestMs * (0.5 + Math.random() / 2);
    const retryAfterMs = error instanceof GatewayError ? (error.retryAfterMs ?? 0) : 0;
    this.#timer = setTimeout(() => void this.#open(), Math.max(delayMs, retryAfterMs));
  }

  #setState(next: SocketState): void {
    this.#state = next;
    this.#options.onState(next);
    if (this.#isSettled()) for (const onSettled of [...this.#waiters]) onSettled();
  }

  #isSettled(): boolean {
    return this.#state === 'open' || this.#state === 'absent';
  }
}
