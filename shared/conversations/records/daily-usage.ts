// The document with the tokens that a key has used on a UTC day, and the commit that adds to it.
import { z } from 'zod';
import { type Clock, utcDay } from '../../clock.ts';
import { erasureOf, erasureWrite, isBefore, toLimitRef } from '../../rate-limit/windows/limit-document.ts';
import { type DocumentOf, defineDocument, hashOwner } from '../../store/define-document.ts';
import type { Ref, Snapshot, Store, Write } from '../../store/store.ts';
import { transact } from '../../store/transact.ts';
import type { Usage } from '../../turn-events.ts';
import { addUsage, NO_USAGE } from '../../usage.ts';
import { StoredUsage } from './documents.ts';
import { storageRef, storageWrite, toStorage } from './storage.ts';

const KEPT_MS = 40 * 86_400_000;

/** Tokens that a key has used on a UTC day. */
export const DailyUsages = defineDocument({
  collection: 'usage',
  schema: StoredUsage.extend({
    owner: z.string(),
    /** `2026-11-13`. */
    day: z.string(),
    turns: z.number(),
  }),
  owned: { orderBy: 'day' },
  id: 'hash of key id, and day',
  holds: 'tokens of a key and day',
  writtenBy: 'turns that end',
  kept: '40 days',
});
export type DailyUsage = DocumentOf<typeof DailyUsages>;

/** Usage of the turns of a key since its last commit, and the change of its stored bytes. */
export interface Gathered {
  readonly usage: Usage;
  readonly turns: number;
  readonly bytes: number;
  /** When the first of them began. */
  readonly sinceMs: number;
}

/** The documents of a key after its last commit: of the day (`cached`), of its storage, and of its limits. */
export interface Committed {
  readonly cached: Snapshot | undefined;
  readonly storage: Snapshot | undefined;
  readonly limits: Snapshot | undefined;
}

/**
 * Adds to the day and to the storage of a key in one commit, without a read if `known` is the stored state. Usage from
 * before an erasure of the key's documents is added to the document of its limits, where the erasure has put the
 * earlier usage of the day: so no erased document is created again, and no spend is lost.
 */
export async function addToDay(
  { store, clock }: { readonly store: Store; readonly clock: Clock },
  owner: string,
  gathered: Gathered,
  known: Committed,
): Promise<Committed> {
  const { usage, turns, bytes, sinceMs } = gathered;
  const day = utcDay(clock.now());
  const ref = usageRef(owner, day);
  const { snapshots } = await transact(
    store,
    [ref, storageRef(owner), toLimitRef(owner)],
    ([snapshot, kept, limits]) => {
      const erased = erasureOf(limits);
      if (limits !== undefined && erased !== undefined && isBefore(erased, sinceMs)) {
        const spent = { atMs: erased.at_ms, day, tokens: usage.total_tokens };
        return { writes: turns === 0 ? [] : [erasureWrite(limits, spent)], result: undefined };
      }
      const before = toDaily(snapshot, owner, day);
      const data: DailyUsage = { ...before, ...addUsage(before, usage), turns: before.turns + turns };
      const stored = toStorage(kept, owner);
      const total = Math.max(0, stored.bytes + bytes);
      const writes: Write[] = [
        ...(turns === 0 ? [] : [DailyUsages.write(ref, data, { expireAtMs: clock.now() + KEPT_MS })]),
        ...(bytes === 0 ? [] : [storageWrite(stored, total)]),
      ];
      return { writes, result: undefined };
    },
    { cached: toCached(known, ref) },
  );
  return { cached: snapshots[0], storage: snapshots[1], limits: snapshots[2] };
}

/**
 * The document of the limits may be older than the stored one: an erasure since then has deleted the other two, so that
 * their versions conflict. Absent documents have no version, and are read.
 */
function toCached({ cached, storage, limits }: Committed, ref: Ref): readonly Snapshot[] | undefined {
  if (cached?.ref.id !== ref.id || storage === undefined || limits === undefined) return undefined;
  return cached.version === null || storage.version === null ? undefined : [cached, storage, limits];
}

export function toDaily(snapshot: Snapshot | undefined, owner: string, day: string): DailyUsage {
  return DailyUsages.read(snapshot) ?? { owner, day, ...NO_USAGE, turns: 0 };
}

export function usageRef(owner: string, day: string): Ref {
  return DailyUsages.ref(`${hashOwner(owner)}-${day}`);
}
