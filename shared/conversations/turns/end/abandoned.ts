// Ends a turn that its owner cannot end, because the lease has expired or the owner does not react to a stop request.
// The stored part of the answer is added to the history.
import { RpcError } from '../../../errors.ts';
import type { Ref } from '../../../store/store.ts';
import { transact } from '../../../store/transact.ts';
import { type AbortReason, answerText } from '../../../turn-events.ts';
import { usageOfEvents } from '../../../usage.ts';
import type { TurnDeps } from '../../deps.ts';
import { Conversations, type Lease } from '../../records/documents.ts';
import { type TurnDocument, Turns } from '../../records/turn-documents.ts';
import { isHeldBy } from '../lease.ts';
import { decodeTurn, endedByOther, modelOf, readSealed, type TurnEnd } from '../turn-record.ts';
import { addAnswer, endTurn, keyRefsOf } from './end-turn.ts';
import { partsOfEvents } from './event-parts.ts';

const ROUNDS_MAX = 5;

export interface AbandonedOptions {
  readonly reason: Extract<AbortReason, 'cancelled' | 'replaced' | 'interrupted'>;
  /**
   * Ends the turn although its lease is valid, because the owner did not react to a stop request. The new epoch fences
   * the owner's later writes.
   */
  readonly force?: boolean;
}

type Settled = 'ended' | 'changed' | { readonly addedBytes: number };

/** Settles the turn of `lease` unless another instance has done so, or its owner is alive. */
export async function settleAbandoned(
  deps: TurnDeps,
  ref: Ref,
  lease: Lease,
  options: AbandonedOptions,
): Promise<void> {
  for (let round = 0; round < ROUNDS_MAX; round++) {
    if (await trySettle(deps, ref, lease, options)) return;
  }
  throw new RpcError('unavailable', {
    message: 'the previous turn of the session has not ended yet: send the call again',
    retryAfterMs: 1_000,
  });
}

/** False when the turn's record changed between the reads and the commit: its owner is alive and has written. */
async function trySettle(
  deps: TurnDeps,
  ref: Ref,
  lease: Lease,
  { reason, force }: AbandonedOptions,
): Promise<boolean> {
  const { store, clock, history, cache, ledger, log, owners } = deps;
  const turnId = lease.turn_id;
  const recordRef = Turns.ref(turnId);
  const [conversationSnapshot, recordSnapshot] = await store.get([ref, recordRef]);
  const before = cache.read(conversationSnapshot);
  if (before === undefined || !isHeldBy(before.turn, lease)) return true;
  const stored = Turns.read(recordSnapshot);
  const { text, parts, usage, model = lease.model } = await storedAnswer(deps, turnId, stored);
  const status = reason === 'interrupted' ? 'interrupted' : 'cancelled';
  const end: TurnEnd = { status, usage, nowMs: clock.now(), failure: null, reason };
  const answered = await addAnswer(history, before, { lease: { turn_id: turnId, model }, text, parts, end });

  const refs = [ref, recordRef, ...keyRefsOf([lease])];
  const { result, snapshots } = await transact<Settled>(store, refs, ([first, second, ...keys]) => {
    const current = cache.read(first);
    if (current === undefined || !isHeldBy(current.turn, lease)) return { writes: [], result: 'ended' as const };
    if (force !== true && owners.ofLease(current.turn) !== 'expired') return { writes: [], result: 'ended' as const };
    if (second?.version !== recordSnapshot?.version) return { writes: [], result: 'changed' as const };
    const { conversation, writes, addedBytes } = endTurn(current, {
      turn: current.turn,
      end,
      text,
      answered,
      keys,
      record: (ended, [event]) => [endedByOther({ conversation: current, lease }, stored, ended, event)],
    });
    return { writes: [Conversations.write(ref, conversation), ...writes], result: { addedBytes } };
  });
  cache.set(ref, snapshots[0]);
  if (typeof result === 'object') {
    answered.committed?.();
    ledger.add(before.owner, usage, result.addedBytes, Date.parse(lease.started_at));
    log.warn('turn ended for an owner that did not answer', { turn_id: turnId, reason });
  }
  return result !== 'changed';
}

/** The stored part of the answer, and its usage. */
async function storedAnswer({ store }: TurnDeps, turnId: string, turn: TurnDocument | undefined) {
  const events = turn === undefined ? [] : decodeTurn(turn, await readSealed(store, turnId, 0, turn.chunks.length));
  return {
    text: answerText(events),
    parts: partsOfEvents(events),
    usage: usageOfEvents(events),
    model: modelOf(events),
  };
}
