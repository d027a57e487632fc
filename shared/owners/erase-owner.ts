// owner.erase: ends everything that runs for an owner, and erases all its documents except the record of its limits:
// otherwise an erasure would reset the limits of its key. A call does a bounded part; all state is in the store, so the
// next one continues, on any instance and after a crash. It is done when a call finds nothing more.

import { deadline } from '../async.ts';
import { utcDay } from '../clock.ts';
import { DailyUsages, toDaily, usageRef } from '../conversations/records/daily-usage.ts';
import { Conversations } from '../conversations/records/documents.ts';
import { erasureWrite, toLimitRef } from '../rate-limit/windows/limit-document.ts';
import { SandboxErasures } from '../sandbox-records/erasures.ts';
import type { Services } from '../services.ts';
import { transact } from '../store/transact.ts';
import { findOwned, OWNED_TYPES, type OwnedType } from './owned-types.ts';

/** A call starts no further step after this time. */
const CALL_MS_MAX = 20_000;
/** Documents deleted in one commit. */
const STEP = 100;

export interface OwnerErasure {
  /** Only the record of its limits is left of the owner. */
  readonly isDone: boolean;
  /** What this call has marked and deleted; the documents of sessions are not counted. */
  readonly sessions: number;
  readonly documents: number;
}

export async function eraseOwner(services: Services, owner: string, given: AbortSignal): Promise<OwnerErasure> {
  const { conversations, mcp, erasures } = services;
  const signal = deadline(CALL_MS_MAX, given);
  const { sessions, isDone } = await conversations.eraseOwner(owner, signal);
  await mcp.endOwner(owner);
  const ended = await erasures.erase({ owner });
  if (!isDone) return { isDone: false, sessions, documents: 0 };
  await recordErasure(services, owner);
  let documents = 0;
  for (const type of OWNED_TYPES) {
    if (type === Conversations || (type === SandboxErasures && ended === 'recorded')) continue;
    const deleted = await eraseType(services, type, owner, signal);
    documents += deleted ?? 0;
    if (deleted === undefined) return { isDone: false, sessions, documents };
  }
  // A session that was started meanwhile is left to the next call.
  const [started] = await findOwned(services.store, Conversations, owner, { limit: 1 });
  return { isDone: started === undefined && ended === 'erased', sessions, documents };
}

/**
 * Stores the erasure and the tokens of the day in the record of the limits. Counts that other instances have not
 * written yet are then added there (daily-usage.ts), and create no document of the owner anew.
 */
async function recordErasure({ store, clock }: Services, owner: string): Promise<void> {
  const atMs = clock.now();
  const day = utcDay(atMs);
  const used = usageRef(owner, day);
  await transact(store, [toLimitRef(owner), used], ([limits, usage]) => {
    if (limits === undefined) throw new Error('a document was not read');
    const tokens = toDaily(usage, owner, day).total_tokens;
    const isUsed = DailyUsages.read(usage) !== undefined;
    return {
      writes: [erasureWrite(limits, { atMs, day, tokens }), ...(isUsed ? [{ ref: used, delete: true } as const] : [])],
      result: undefined,
    };
  });
}

/** The number of deleted documents, of which none is left; undefined if the time is over. */
async function eraseType(
  { store }: Services,
  type: OwnedType,
  owner: string,
  signal: AbortSignal,
): Promise<number | undefined> {
  for (let deleted = 0; ; ) {
    if (signal.aborted) return undefined;
    const found = await findOwned(store, type, owner, { limit: STEP, withExpired: true });
    if (found.length > 0) await store.commit(found.map(({ ref }) => ({ ref, delete: true })));
    deleted += found.length;
    if (found.length < STEP) return deleted;
  }
}
