// The owner's commit that ends its turn: the terminal event, the answer in the history, a free session. The lease
// fences it: if another instance has ended the turn, the stored end is returned.
import { setTimeout as sleep } from 'node:timers/promises';
import { RpcError, toRpcError } from '../../../errors.ts';
import { errorFields } from '../../../log.ts';
import type { MessagePart } from '../../../messages/message-parts.ts';
import { NewerFormat } from '../../../store/define-document.ts';
import { transact } from '../../../store/transact.ts';
import type { TurnEvent } from '../../../turn-events.ts';
import type { TurnDeps } from '../../deps.ts';
import { eraseTurn } from '../../erase.ts';
import { confirmEnd } from '../../erase-owner.ts';
import { type ContextBudget, Conversations } from '../../records/documents.ts';
import type { EventLog, NumberedEvent } from '../../records/event-log.ts';
import type { ChangedMessages } from '../../records/messages/messages.ts';
import { eraseRollouts } from '../../records/rollouts.ts';
import { Turns } from '../../records/turn-documents.ts';
import { addAnswer, endTurn, isFinal, keyRefsOf } from '../end/end-turn.ts';
import { isHeldBy } from '../lease.ts';
import type { AdmittedTurn, EndedTurn } from '../turn.ts';
import {
  decodeTurn,
  modelOf,
  type RecordWrite,
  readSealed,
  syntheticTerminalEvent,
  type TurnEnd,
  type TurnRecord,
} from '../turn-record.ts';
import type { EventFlusher } from './event-flusher.ts';

const SETTLE_RETRY_MS = 500;

export interface TurnToSettle {
  readonly admitted: AdmittedTurn;
  readonly log: EventLog;
  readonly record: TurnRecord;
  readonly flusher: EventFlusher;
  /** The answer, or the received part of it. */
  readonly text: string;
  /** What the engine has recorded of it. */
  readonly parts: readonly MessagePart[];
  /** The end that the runner has determined; a stored stop request overrides it. */
  readonly end: TurnEnd;
  /** The budget for the model, if the provider has refused the conversation as too long. */
  readonly budget: ContextBudget | undefined;
}

type Settled =
  | {
      readonly kind: 'settled';
      readonly record: RecordWrite;
      /** The events that end the turn. */
      readonly events: readonly TurnEvent[];
      readonly addedBytes: number;
    }
  | { readonly kind: 'taken' }
  | { readonly kind: 'erased' };

/** Resolves with the stored end. Rejects with `unavailable` when no commit succeeds for the time of a lease. */
export async function settleTurn(deps: TurnDeps, turn: TurnToSettle): Promise<EndedTurn> {
  const { clock, log, turns } = deps;
  for (const giveUpAtMs = clock.monotonic() + turns.leaseMs; ; ) {
    try {
      await turn.flusher.finish();
      return await commitEnd(deps, turn, await answer(deps, turn));
    } catch (error) {
      const { reason } = toRpcError(error);
      // The session was deleted while the turn ran: nothing is left to settle.
      if (reason === 'cancelled') throw error;
      if (reason !== 'unavailable' || error instanceof NewerFormat || clock.monotonic() >= giveUpAtMs) {
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

function answer({ history }: TurnDeps, { admitted, log, text, parts, end }: TurnToSettle): Promise<ChangedMessages> {
  const { turn_id, model } = admitted.lease;
  const lease = { turn_id, model: modelOf(log.events) ?? model };
  return addAnswer(history, admitted.conversation, { lease, text, parts, end });
}

async function commitEnd(deps: TurnDeps, turn: TurnToSettle, answered: ChangedMessages): Promise<EndedTurn> {
  const { store, cache, ledger } = deps;
  const { admitted, log, record, text } = turn;
  const { ref, lease } = admitted;
  const keyRefs = isFinal(turn.end) ? [] : keyRefsOf([lease]);
  const { result, snapshots } = await transact<Settled>(
    store,
    [ref, ...keyRefs],
    ([snapshot, ...keys]) => {
      const current = cache.read(snapshot);
      if (current === undefined || !isHeldBy(current.turn, lease)) {
        const erased = current?.conversation_id !== admitted.conversation.conversation_id;
        return { writes: [], result: { kind: erased ? 'erased' : 'taken' } };
      }
      const ended = endTurn(current, {
        turn: current.turn,
        end: { ...turn.end, messageSeq: answered.conversation.message_count },
        text,
        answered,
        keys,
        budget: turn.budget,
        record: (end, last) => record.writes([...log.events, ...toNumbered(last, log.events.length)], end, end.nowMs),
      });
      return {
        writes: [Conversations.write(ref, ended.conversation), ...ended.writes],
        result: { kind: 'settled', record: ended.record, events: ended.events, addedBytes: ended.addedBytes },
      };
    },
    { cached: keyRefs.length === 0 ? cache.get(ref) : undefined },
  );
  cache.set(ref, snapshots[0]);
  if (result.kind === 'erased') return eraseOrphanedTurn(deps, turn);
  if (result.kind === 'taken') return adoptEnd(deps, turn);
  answered.committed?.();
  for (const event of result.events) log.append(event);
  const stored = result.record.data;
  ledger.add(admitted.conversation.owner, stored.usage, result.addedBytes, Date.parse(lease.started_at));
  return { turn: stored, events: log.events };
}

/** Another instance, or an unconfirmed commit of this one, has ended the turn: returns the stored end. */
async function adoptEnd({ store }: TurnDeps, { admitted, log }: TurnToSettle): Promise<EndedTurn> {
  const { turn_id } = admitted.lease;
  const [snapshot] = await store.get([Turns.ref(turn_id)]);
  const turn = Turns.read(snapshot);
  if (turn === undefined || turn.status === 'running') throw sessionDeleted();
  const known = log.events.at(-1)?.seq ?? 0;
  const stored = decodeTurn(turn, await readSealed(store, turn_id, 0, turn.chunks.length));
  const terminal = syntheticTerminalEvent(turn, known);
  for (const numbered of terminal ? [terminal] : stored) if (numbered.seq > known) log.adopt(numbered);
  return { turn, events: log.events };
}

/** The session was deleted while the turn ran: erases what this owner has stored since. */
async function eraseOrphanedTurn(
  { store, ledger, log: logger }: TurnDeps,
  { admitted, log, record, end }: TurnToSettle,
): Promise<never> {
  const { turn_id, started_at } = admitted.lease;
  await eraseTurn(store, turn_id, record.sealedChunks);
  await eraseRollouts(store, admitted.conversation.conversation_id);
  ledger.add(admitted.conversation.owner, end.usage, 0, Date.parse(started_at));
  await ledger.flush();
  await confirmEnd({ store, log: logger }, admitted.ref, turn_id);
  log.append({ TurnAborted: { turn_id, reason: 'cancelled' } });
  throw sessionDeleted();
}

function sessionDeleted(): RpcError {
  return new RpcError('cancelled', { message: 'the session was deleted while the turn ran' });
}

function toNumbered(events: readonly TurnEvent[], count: number): NumberedEvent[] {
  return events.map((event, index) => ({ seq: count + 1 + index, event }));
}
