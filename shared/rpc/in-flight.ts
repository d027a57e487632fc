// Bytes of requests and answers that this instance holds at one moment. Each request is bounded by itself; this bounds
// all of them together, which is what ends a process with little memory. One owner gets at most half, so that it cannot
// keep the others out.
import { RpcError } from '../errors.ts';

/** What a request may have without being counted: nearly all do, and need no bookkeeping. */
const FREE_BYTES = 16 << 10;
const RETRY_MS = 1_000;

/** What one request holds, from its first byte until its answer has been taken. */
export interface Held {
  /** Counts more bytes, or fewer where negative; false, and nothing is counted, when they do not fit. */
  add(bytes: number): boolean;
  /** May be called more than once. */
  release(): void;
}

export interface InFlight {
  open(owner: string): Held;
}

export function createInFlight(bytesMax: number): InFlight {
  const owners = new Map<string, number>();
  let total = 0;
  return {
    open(owner) {
      let own = 0;
      let counted = 0;
      let isOpen = true;
      return {
        add(bytes) {
          const more = Math.max(0, own + bytes - FREE_BYTES) - counted;
          if (more !== 0 && isOpen) {
            const owned = (owners.get(owner) ?? 0) + more;
            if (more > 0 && (total + more > bytesMax || owned > bytesMax / 2)) return false;
            if (owned > 0) owners.set(owner, owned);
            else owners.delete(owner);
            total += more;
            counted += more;
          }
          own += bytes;
          return true;
        },
        release() {
          if (!isOpen) return;
          isOpen = false;
          if (counted === 0) return;
          total -= counted;
          const left = (owners.get(owner) ?? 0) - counted;
          if (left > 0) owners.set(owner, left);
          else owners.delete(owner);
        },
      };
    },
  };
}

/** What one call holds while it makes its answer, beside the answer itself. */
export interface CallMemory {
  /** Counts bytes that are kept; false, and nothing is counted, when the instance has no room for them. */
  hold(bytes: number): boolean;
  /**
   * Waits for a place among the calls that make a large answer, and for a turn of the event loop of its own. Throws
   * RpcError `unavailable`.
   */
  place(): Promise<void>;
}

/** `release` gives back what the call has counted, and its place. */
export function createCallMemory(
  hold: (bytes: number) => boolean,
  place: (() => Promise<() => void>) | undefined,
): CallMemory & { release(): void } {
  let heldBytes = 0;
  let leave: (() => void) | undefined;
  return {
    hold(bytes) {
      if (!hold(bytes)) return false;
      heldBytes += bytes;
      return true;
    },
    async place() {
      leave ??= await place?.();
    },
    release() {
      if (heldBytes !== 0) hold(-heldBytes);
      heldBytes = 0;
      leave?.();
      leave = undefined;
    },
  };
}

/** The request was not run, and may be later. */
export function overloaded(): RpcError {
  return new RpcError('unavailable', {
    message: 'this instance holds as many bytes of requests and answers as it may: send the call again later',
    retryAfterMs: RETRY_MS,
  });
}
