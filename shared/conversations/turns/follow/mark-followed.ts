// A reader on another instance shows the owner of a turn that it follows: the owner then writes the events every second
// (event-flusher.ts), and finds the mark by its watch. Owners of earlier versions ignore the mark, and write every
// second in any case.
import { Conflict, type Snapshot } from '../../../store/store.ts';
import type { TurnDeps } from '../../deps.ts';
import { Conversations } from '../../records/documents.ts';

/** A mark of any instance is renewed when it is this old; it counts three times as long. */
const RENEW_MS = 10_000;

/** Marks the running turn of the conversation, unless the mark is recent. `snapshot`: as just read. */
export async function markFollowed(
  { store, cache, clock, owners }: TurnDeps,
  snapshot: Snapshot | undefined,
): Promise<void> {
  const conversation = cache.read(snapshot);
  const turn = conversation?.turn;
  if (!snapshot?.version || !conversation || !turn || owners.ofLease(turn) === 'expired') return;
  const nowMs = clock.now();
  if (turn.followed_at_ms !== undefined && Math.abs(nowMs - turn.followed_at_ms) < RENEW_MS) return;
  const marked = { ...conversation, turn: { ...turn, followed_at_ms: nowMs } };
  try {
    const write = Conversations.write(snapshot.ref, marked, { if: { version: snapshot.version } });
    await store.commit([{ ...write, ...(snapshot.data && { base: snapshot.data }) }]);
  } catch (error) {
    // Another write came first: the next check marks the turn.
    if (!(error instanceof Conflict)) throw error;
  }
}
