// What one socket still has to send, and what that means: above a mark its sources wait and its peer is not read from, far above it for
// long the peer is too slow. Never drops or reorders.
import type { Duplex } from 'node:stream';
import type { WebSocket } from 'ws';

/** Unsent bytes above which sources wait. */
export const PAUSE_BYTES = 256 << 10;
/** Unsent bytes at which a peer is too slow, when it stays there. */
const STUCK_BYTES = 1 << 20;

export interface Outbox {
  /**
   * Sends a text message; the promise, where there is one, resolves when a source may go on, or when the socket has ended. While it is
   * being closed nothing is sent and every source waits: one that did not would spin.
   */
  send(text: string): void | Promise<void>;
  /** Sources are waiting. */
  readonly isPaused: boolean;
  /** Too much has been unsent for too long. `nowMs` is monotonic. */
  isStuck(nowMs: number): boolean;
  /** Whether the peer took anything of a backlog since the last question. */
  hasMoved(): boolean;
  /** The socket has ended: whoever waits goes on. */
  stop(): void;
}

export interface OutboxOptions {
  readonly stuckMs: number;
  onPause(): void;
  onResume(): void;
}

/** `stream` is what lies below `socket`: ws itself queues nothing when it does not compress. */
export function createOutbox(socket: WebSocket, stream: Duplex, { stuckMs, onPause, onResume }: OutboxOptions): Outbox {
  let waiting: { readonly promise: Promise<void>; readonly resolve: () => void } | undefined;
  let stuckSinceMs: number | undefined;
  let backlog = 0;
  let stopped = false;
  let end: PromiseWithResolvers<void> | undefined;

  function goOn(): void {
    const ended = waiting;
    waiting = undefined;
    backlog = 0;
    ended?.resolve();
  }

  function onDrain(): void {
    if (waiting === undefined) return;
    goOn();
    onResume();
  }

  return {
    send(text) {
      if (socket.readyState !== socket.OPEN) {
        if (stopped) return;
        end ??= Promise.withResolvers();
        return end.promise;
      }
      socket.send(text);
      if (stream.writableLength <= PAUSE_BYTES) return;
      if (waiting === undefined) {
        waiting = Promise.withResolvers<void>();
        backlog = stream.writableLength;
        stream.once('drain', onDrain);
        onPause();
      }
      return waiting.promise;
    },
    get isPaused() {
      return waiting !== undefined;
    },
    isStuck(nowMs) {
      if (stream.writableLength < STUCK_BYTES) stuckSinceMs = undefined;
      else stuckSinceMs ??= nowMs;
      return stuckSinceMs !== undefined && nowMs - stuckSinceMs >= stuckMs;
    },
    hasMoved() {
      const before = backlog;
      backlog = stream.writableLength;
      return waiting !== undefined && backlog < before;
    },
    stop() {
      stopped = true;
      end?.resolve();
      stream.off('drain', onDrain);
      goOn();
    },
  };
}
