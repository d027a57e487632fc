// The one commit that ends a turn: its terminal event, the answer in the history, the session free again. Fenced by the
// lease: when another instance has ended the turn, the stored end is how it ended.

import { setTimeout as sleep } from 'node:timers/promises';
import { RpcError, toRpcError } from '../../errors.ts';
import { errorFields } from '../../log.ts';
import type { Write } from '../../store/store.ts';
import { transact } from '../../store/transact.ts';
import type { AbortReason, CutReason } from '../../turn-events.ts';
import { releaseKey } from '../admission/queue.ts';
import type { TurnParts } from '../deps.ts';
import { eraseTurn } from '../erase.ts';
import { type ContextBudget, type ConversationDocument, type TurnDocument, turnRef } from '../records/documents.ts';
import type { EventLog, NumberedEvent } from '../records/event-log.ts';
import { appendMessage } from '../records/history.ts';
import { eraseRollouts } from '../records/rollouts.ts';
import { withCounted } from '../storage.ts';
import type { EventFlusher } from './event-flusher.ts';
import { isHeldBy, settle } from './lease.ts';
import {
  decodeTurn,
  type RecordWrite,
  readSealed,
  syntheticTerminalEvent,
  type TurnEnd,
  type TurnRecord,
} from './turn-record.ts';
import type { AdmittedTurn, EndedTurn } from './turn-runner.ts';

const SETTLE_RETRY_MS = 500;
/** Models whose budgets a conversation remembers. */
const BUDGETS_MAX = 8;

export interface TurnToSettle {
  readonly admitted: AdmittedTurn;
  readonly log: EventLog;
  readonly record: TurnRecord;
  readonly flusher: EventFlusher;
  /** The answer, or what there is of it. */
  readonly text: string;
  /** How the turn ended as its runner saw it. */
  readonly end: TurnEnd;
  /** Why the runner stopped it, if it did. */
  readonly stopped: AbortReason | undefined;
  /** What the provider was found to take of the conversation, when it refused more. */
  readonly budget: ContextBudget | undefined;
}

type Settled =
  | {
      readonly kind: 'settled';
      readonly record: RecordWrite;
      readonly events: readonly NumberedEvent[];
      readonly addedBytes: number;
    }
  | { readonly kind: 'taken' }
  | { readonly kind: 'erased' };

/** Resolves with the end on record. Rejects with `unavailable` when the store takes nothing for as long as a lease. */
export async function settleTurn(parts: TurnParts, turn: TurnToSettle): Promise<EndedTurn> {
  const { clock, log, turns } = parts;
  for (const giveUpAtMs = clock.monotonic() + turns.leaseMs; ; ) {
    try {
      await turn.flusher.finish();
      return await commitEnd(parts, turn, await withAnswer(parts, turn));
    } catch (error) {
      const { reason } = toRpcError(error);
      // Deleted while it ran: nothing is left to settle.
      if (reason === 'cancelled') throw error;
      if (reason !== 'unavailable' || clock.monotonic() >= giveUpAtMs) {
        log.error('turn could not be settled; its lease will expire', {
          turn_id: turn.admitted.lease.turn_id,
          ...errorFields(error),
        });
        throw error;
      }
      await sleep(SETTLE_RETRY_MS * (0.5 + Math.random()));
    }
  }
}

/** The messages with the answer added. No other instance changes them while the lease is ours. */
async function withAnswer(
  { history }: TurnParts,
  { admitted, text, end }: TurnToSettle,
): Promise<{ readonly conversation: ConversationDocument; readonly writes: readonly Write[] }> {
  const { conversation, lease } = admitted;
  if (text === '') return { conversation, writes: [] };
  const now = new Date(end.nowMs).toISOString();
  const message = { role: 'assistant', text, turnId: lease.turn_id, now, partial: end.status !== 'completed' } as const;
  const added = appendMessage(conversation, message);
  const compacted = await history.compact(added.conversation);
  return { conversation: compacted.conversation, writes: [...added.writes, ...compacted.writes] };
}

async function commitEnd(
  parts: TurnParts,
  turn: TurnToSettle,
  answered: { readonly conversation: ConversationDocument; readonly writes: readonly Write[] },
): Promise<EndedTurn> {
  const { store, cache, ledger } = parts;
  const { admitted, log, record, text } = turn;
  const { ref, lease } = admitted;
  const { result, snapshots } = await transact<Settled>(
    store,
    [ref],
    ([snapshot]) => {
      const current = cache.read(snapshot);
      if (current === undefined || !isHeldBy(current.turn, lease)) {
        const erased = current?.conversation_id !== admitted.conversation.conversation_id;
        return { writes: [], result: { kind: erased ? 'erased' : 'taken' } };
      }
      const unasked = turn.end.status === 'interrupted' ? 'interrupted' : 'cancelled';
      const reason = current.turn.stop ?? turn.stopped ?? unasked;
      // A stop that is on record before this commit wins: the caller that asked was promised that end.
      const end: TurnEnd = current.turn.stop === null ? turn.end : { ...turn.end, status: 'cancelled', failure: null };
      const events = [...log.events, ...terminalEvents(end, reason, lease.turn_id, text, log.events.length)];
      const writes = record.writes(events, end, end.nowMs);
      const { recent, chunks, message_count, stored_bytes } = answered.conversation;
      const { counted, addedBytes } = withCounted({
        ...withBudget(current, turn.budget),
        recent: markPartial(recent, lease.turn_id, end),
        chunks,
        message_count,
        ...(stored_bytes !== undefined && { stored_bytes }),
      });
      const next = settle(counted, { status: end.status, usage: end.usage, now: new Date(end.nowMs).toISOString() });
      return {
        writes: [{ ref, data: next }, ...writes, ...answered.writes, ...releaseKey(current, end, lease)],
        result: { kind: 'settled', record: writes[0], events, addedBytes },
      };
    },
    { cached: cache.get(ref) },
  );
  cache.set(ref, snapshots[0]);
  if (result.kind === 'erased') return eraseOrphanedTurn(parts, turn);
  if (result.kind === 'taken') return adoptEnd(parts, turn);
  for (const numbered of result.events.slice(log.events.length)) log.adopt(numbered);
  const stored = result.record.data;
  ledger.add(admitted.conversation.owner, stored.usage, result.addedBytes);
  return { turn: stored, events: log.events };
}

/** Another instance (or an unconfirmed commit of ours) has ended the turn: the stored end is how it ended. */
async function adoptEnd({ store }: TurnParts, { admitted, log }: TurnToSettle): Promise<EndedTurn> {
  const { turn_id } = admitted.lease;
  const [snapshot] = await store.get<TurnDocument>([turnRef(turn_id)]);
  const turn = snapshot?.data;
  if (turn === undefined || turn.status === 'running') throw deleted();
  const known = log.events.at(-1)?.seq ?? 0;
  const stored = decodeTurn(turn, await readSealed(store, turn_id, 0, turn.chunks.length));
  const beyond = syntheticTerminalEvent(turn, known);
  for (const numbered of beyond ? [beyond] : stored) if (numbered.seq > known) log.adopt(numbered);
  return { turn, events: log.events };
}

/** The session was deleted while the turn ran. What this owner stored after that, not knowing, goes too. */
async function eraseOrphanedTurn(
  { store, ledger }: TurnParts,
  { admitted, log, record, end }: TurnToSettle,
): Promise<never> {
  const { turn_id } = admitted.lease;
  await eraseTurn(store, turn_id, record.sealedChunks);
  await eraseRollouts(store, admitted.conversation.conversation_id);
  ledger.add(admitted.conversation.owner, end.usage);
  log.append({ TurnAborted: { turn_id, reason: 'cancelled' } });
  throw deleted();
}

function deleted(): RpcError {
  return new RpcError('cancelled', { message: 'the session was deleted while the turn ran' });
}

/** The events that end a turn, numbered after the `count` events before them. */
function terminalEvents(
  end: TurnEnd,
  reason: AbortReason,
  turnId: string,
  text: string,
  count: number,
): NumberedEvent[] {
  if (end.status === 'completed') {
    return [
      { seq: count + 1, event: { AgentMessage: { message: text } } },
      { seq: count + 2, event: { TaskComplete: { turn_id: turnId, usage: end.usage, ...finishOf(end) } } },
    ];
  }
  if (end.failure !== null) {
    const { reason: failed, message } = end.failure;
    return [{ seq: count + 1, event: { Error: { turn_id: turnId, reason: failed, message } } }];
  }
  return [{ seq: count + 1, event: { TurnAborted: { turn_id: turnId, reason } } }];
}

/** Distinguishes an answer that was cut from one that the model ended itself. */
function finishOf({ finishReason }: TurnEnd): { readonly finish_reason?: CutReason } {
  return finishReason === undefined || finishReason === 'stop' ? {} : { finish_reason: finishReason };
}

function withBudget(conversation: ConversationDocument, budget: ContextBudget | undefined): ConversationDocument {
  if (budget === undefined) return conversation;
  const others = (conversation.budgets ?? []).filter(({ model }) => model !== budget.model);
  return { ...conversation, budgets: [...others, budget].slice(-BUDGETS_MAX) };
}

function markPartial(
  recent: ConversationDocument['recent'],
  turnId: string,
  end: TurnEnd,
): ConversationDocument['recent'] {
  const partial = end.status !== 'completed';
  return recent.map((message) =>
    message.role === 'assistant' && message.turn_id === turnId && message.partial !== partial
      ? { ...message, partial }
      : message,
  );
}
