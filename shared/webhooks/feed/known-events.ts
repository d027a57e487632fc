// The events that the feed has emitted, as far as a late or repeated one can still arrive.
import type { WallClock } from '../../clock.ts';

/**
 * An event has the time of its arrival at an instance, and is committed later, maybe in another order. The delay is at
 * most the deadline of the recording commit plus the skew of two clocks. A reader may receive an event that is up to
 * this much older than one it has received.
 */
export const OVERLAP_MS = 15_000;
const KNOWN_MAX = 8_192;

export interface KnownEvents {
  /** Arrival times of the events, by id. */
  readonly times: ReadonlyMap<string, number>;
  /** Adds an event; returns false if it is known. */
  add(id: string, receivedAtMs: number): boolean;
  /** The start of the overlap. Older events were emitted already, or are not new. */
  floorMs(): number;
  /** Whether an event that is committed late may still come before the newest one. */
  isOverlapOpen(): boolean;
}

export function createKnownEvents(clock: WallClock): KnownEvents {
  const times = new Map<string, number>();
  let highMs = 0;

  const floorMs = (): number => Math.max(0, Math.min(highMs, clock.now()) - OVERLAP_MS);

  const prune = (): void => {
    for (const [id, atMs] of times) if (atMs < floorMs()) times.delete(id);
    for (const id of times.keys()) {
      if (times.size <= KNOWN_MAX / 2) break;
      times.delete(id);
    }
  };

  return {
    times,
    add(id, receivedAtMs) {
      if (times.has(id)) return false;
      times.set(id, receivedAtMs);
      highMs = Math.max(highMs, receivedAtMs);
      if (times.size > KNOWN_MAX) prune();
      return true;
    },
    floorMs,
    isOverlapOpen: () => clock.now() < highMs + OVERLAP_MS,
  };
}
