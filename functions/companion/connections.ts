// The open connections of an instance. Bounds their number per key, checks them at a common interval, and drains them.
import { settledWithin } from '../../shared/async.ts';
import { RpcError } from '../../shared/errors.ts';
import { CLOSE } from '../../shared/protocol.ts';
import type { SocketConnection } from './connection.ts';

/** Time after the grace period of a drain in which close frames are exchanged. */
const CLOSE_FRAMES_MS = 500;

export interface ConnectionsOptions {
  /** Maximum number of connections per key on this instance. */
  readonly perKeyMax: number;
  /** Interval at which connections are checked. */
  readonly tickMs: number;
  /** Called when the first connection is opened, and when the last one has ended. */
  onFirst(): void;
  onLast(): void;
}

export class Connections {
  readonly #options: ConnectionsOptions;
  readonly #open = new Set<SocketConnection>();
  readonly #perKey = new Map<string, number>();
  #timer: NodeJS.Timeout | undefined;
  #emptied = Promise.withResolvers<void>();
  #isDraining = false;

  constructor(options: ConnectionsOptions) {
    this.#options = options;
  }

  get all(): ReadonlySet<SocketConnection> {
    return this.#open;
  }

  get isDraining(): boolean {
    return this.#isDraining;
  }

  /** Throws RpcError `rate_limited` when the key has the maximum number of connections. */
  checkRoom(keyId: string): void {
    const { perKeyMax } = this.#options;
    if ((this.#perKey.get(keyId) ?? 0) < perKeyMax) return;
    throw new RpcError('rate_limited', {
      message: `Too Many Requests: at most ${perKeyMax} connections per key`,
      data: { limit: perKeyMax },
      retryAfterMs: 1_000,
    });
  }

  add(connection: SocketConnection): void {
    const { keyId } = connection.caller;
    this.#perKey.set(keyId, (this.#perKey.get(keyId) ?? 0) + 1);
    this.#open.add(connection);
    // After this process was blocked, pongs may wait to be read. The check runs after that read, so that a connection
    // is not closed because of the blocked process.
    this.#timer ??= setInterval(() => setImmediate(() => this.#tick()), this.#options.tickMs);
    if (this.#open.size === 1) this.#options.onFirst();
    if (this.#isDraining) connection.announceClose('shutdown', performance.now());
  }

  remove(connection: SocketConnection): void {
    const { keyId } = connection.caller;
    this.#open.delete(connection);
    const left = (this.#perKey.get(keyId) ?? 1) - 1;
    if (left === 0) this.#perKey.delete(keyId);
    else this.#perKey.set(keyId, left);
    if (this.#open.size > 0) return;
    this.#options.onLast();
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#emptied.resolve();
  }

  /** Announces the close to all connections. Resolves when they have ended, at the latest shortly after `graceMs`. */
  async drain(graceMs: number): Promise<void> {
    this.#isDraining = true;
    if (this.#open.size === 0) return;
    this.#emptied = Promise.withResolvers();
    const untilMs = performance.now() + graceMs;
    for (const connection of this.#open) connection.announceClose('shutdown', untilMs);
    await settledWithin(graceMs, this.#emptied.promise);
    for (const connection of this.#open) connection.close(CLOSE.restart, 'reconnect');
    if (this.#open.size > 0) await settledWithin(CLOSE_FRAMES_MS, this.#emptied.promise);
    this.#destroyAll();
  }

  /** Ends all connections immediately. */
  close(): void {
    this.#isDraining = true;
    this.#destroyAll();
  }

  #destroyAll(): void {
    for (const connection of this.#open) connection.destroy();
  }

  #tick(): void {
    const nowMs = performance.now();
    for (const connection of this.#open) connection.tick(nowMs);
  }
}
