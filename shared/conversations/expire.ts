// The sweep that erases expired sessions. Firestore's TTL policy deletes single documents: it would leave the older
// messages of a session, or an expiry of each of them would have to be moved with every prompt, and the owner's total
// of stored bytes would never shrink. So a session is erased here, as by conversation.delete, on the first UTC day that
// begins after its expiry.
import { deadline } from '../async.ts';
import { errorFields } from '../log.ts';
import type { Query, Ref, Snapshot } from '../store/store.ts';
import { transact } from '../store/transact.ts';
import type { TurnDeps } from './deps.ts';
import { eraseGone } from './erase.ts';
import { Conversations } from './records/documents.ts';

/** Sessions that one query returns. */
const STEP = 20;
/** Sessions that are erased at a time. */
const PARALLEL = 4;
/** A sweep starts no further session after this time; lower than the 60 s deadline of the Scheduler job. */
const SWEEP_MS_MAX = 40_000;

export interface ExpiryOptions {
  readonly signal?: AbortSignal | undefined;
}

/**
 * Erases sessions until none is due or the time is over; any number of instances may run it. Returns their number.
 * `isSteady`: a clock that is wrong for a moment must not erase sessions that have not expired.
 */
export async function eraseExpired(
  deps: TurnDeps,
  isSteady: () => boolean,
  { signal: given }: ExpiryOptions = {},
): Promise<number> {
  const { store, retention, log } = deps;
  const signal = deadline(SWEEP_MS_MAX, given);
  const mayGoOn = (): boolean => isSteady() && !signal.aborted;
  let erased = 0;
  for (let after: Query['after']; mayGoOn(); ) {
    const found = await store.query(
      Conversations.query({ orderBy: 'expires_on', limit: STEP, ...(after && { after }) }),
      { signal },
    );
    const due = found.filter((snapshot) => dayOf(snapshot) < retention.today());
    const next = due.values();
    const worker = async (): Promise<void> => {
      for (const { ref } of next) {
        if (!mayGoOn()) return;
        try {
          if (await eraseGone(deps, ref)) erased++;
          else await stampAgain(deps, ref);
        } catch (error) {
          log.warn('an expired session is not erased yet', errorFields(error));
        }
      }
    };
    await Promise.all(Array.from({ length: PARALLEL }, worker));
    const last = due.at(-1);
    if (due.length < STEP || last === undefined) break;
    after = { value: dayOf(last), id: last.ref.id };
  }
  return erased;
}

/** Of any document, also one that this version cannot read. */
function dayOf({ data }: Snapshot): string {
  return data !== undefined && 'expires_on' in data ? String(data.expires_on) : '';
}

/** The session was used, or its days were changed, after the day was stored. */
async function stampAgain({ store, cache, retention }: TurnDeps, ref: Ref): Promise<void> {
  await transact(store, [ref], ([snapshot]) => {
    const current = cache.read(snapshot);
    const stamped = current && retention.stamp(current);
    const isChanged = stamped !== undefined && stamped !== current;
    return { writes: isChanged ? [Conversations.write(ref, stamped)] : [], result: undefined };
  });
}
