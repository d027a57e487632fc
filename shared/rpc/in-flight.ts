// Bounds the bytes of all requests and responses that this instance holds at one moment. Each request has its own
// limit; only the sum can exhaust the memory of the process. One owner gets at most half, so that it cannot block the
// others.
import { RpcError } from '../errors.ts';

/** Smaller requests are not counted: nearly all are smaller. */
const FREE_BYTES = 16 << 10;
const RETRY_MS = 1_000;

/** The bytes of one request, counted from its first byte until its response is sent. */
export interface Held {
  /** Adds bytes (negative: subtracts them). Returns false, and counts nothing, if they exceed a bound. */
  add(bytes: number): boolean;
  /** Subtracts everything. Idempotent. */
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

/** The memory that one call uses while it builds its response, apart from the response. */
export interface CallMemory {
  /** Counts bytes until the call ends. Returns false, and counts nothing, if they exceed a bound of the instance. */
  hold(bytes: number): boolean;
  /**
   * Waits for a slot among the calls that build a large response, and for a separate iteration of the event loop.
   * Throws RpcError `unavailable`.
   */
  place(): Promise<void>;
}

/**
 * `isPlaced`: the call builds a large response. `leave` frees its slot, `release` subtracts the counted bytes too.
 */
export function createCallMemory(
  hold: (bytes: number) => boolean,
  place: (() => Promise<() => void>) | undefined,
): CallMemory & { readonly isPlaced: boolean; leave(): void; release(): void } {
  let heldBytes = 0;
  let free: (() => void) | undefined;
  const memory = {
    isPlaced: false,
    hold(bytes: number) {
      if (!hold(bytes)) return false;
      heldBytes += bytes;
      return true;
    },
    async place() {
      free ??= await place?.();
      memory.isPlaced = true;
    },
    leave() {
      free?.();
      free = undefined;
    },
    release() {
      if (heldBytes !== 0) hold(-heldBytes);
      heldBytes = 0;
      memory.leave();
    },
  };
  return memory;
}

/** The error of a request that was not run because the memory bound is reached; retryable. */
export function overloaded(): RpcError {
  return new RpcError('unavailable', {
    message: 'this instance has reached its memory limit for requests and responses: send the call again later',
    retryAfterMs: RETRY_MS,
  });
}
