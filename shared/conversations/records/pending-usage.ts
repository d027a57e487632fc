// What a key has used since its last write, in memory, and the documents of that write. No I/O, no clock and no timer.
import type { Snapshot } from '../../store/store.ts';
import type { Usage } from '../../turn-events.ts';
import { addUsage, NO_USAGE } from '../../usage.ts';
import type { Gathered } from './daily-usage.ts';

/** Most keys in memory; above it, counts that are not written yet are dropped. */
const KEYS_MAX = 10_000;

export interface Pending {
  usage: Usage;
  turns: number;
  bytes: number;
  cached: Snapshot | undefined;
  storage: Snapshot | undefined;
  limits: Snapshot | undefined;
  /** When the first of what is counted began. */
  sinceMs: number;
  writing: Promise<void> | undefined;
  timer: NodeJS.Timeout | undefined;
}

const NOTHING: Pending = {
  usage: NO_USAGE,
  turns: 0,
  bytes: 0,
  cached: undefined,
  storage: undefined,
  limits: undefined,
  sinceMs: 0,
  writing: undefined,
  timer: undefined,
};

/** Finds or creates the entry of a key. */
export function pendingOf(keys: Map<string, Pending>, owner: string): Pending {
  const known = keys.get(owner);
  if (known !== undefined) return known;
  if (keys.size >= KEYS_MAX) keys.clear();
  const made = { ...NOTHING };
  keys.set(owner, made);
  return made;
}

/** Whether there is something to write. */
export function isCounted({ turns, bytes }: Pick<Pending, 'turns' | 'bytes'>): boolean {
  return turns > 0 || bytes !== 0;
}

/** Adds the usage of one turn, and a change of stored bytes. A turn without tokens is not counted. */
export function gather(pending: Pending, usage: Usage, bytes: number, sinceMs: number): void {
  pending.sinceMs = isCounted(pending) ? Math.min(pending.sinceMs, sinceMs) : sinceMs;
  pending.usage = addUsage(pending.usage, usage);
  pending.bytes += bytes;
  if (usage.total_tokens > 0) pending.turns++;
}

/** Removes what is to be written. */
export function takeGathered(pending: Pending): Gathered {
  const { usage, turns, bytes, sinceMs } = pending;
  Object.assign(pending, { usage: NO_USAGE, turns: 0, bytes: 0 });
  return { usage, turns, bytes, sinceMs };
}

/** Adds again what was not written, and forgets the documents: they may have changed. */
export function putBack(pending: Pending, { usage, turns, bytes, sinceMs }: Gathered): void {
  pending.usage = addUsage(pending.usage, usage);
  pending.turns += turns;
  pending.bytes += bytes;
  Object.assign(pending, { cached: undefined, storage: undefined, limits: undefined, sinceMs });
}
