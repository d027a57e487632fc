// Decides whether a prompt gets the session's lease or a queue entry, and returns the writes.
import { RpcError } from '../../errors.ts';
import { refKey } from '../../store/document.ts';
import type { Write } from '../../store/store.ts';
import { type ConversationDocument, Conversations } from '../records/documents.ts';
import { dropMessages } from '../records/messages/drop-messages.ts';
import { appendMessage, type ChangedMessages, takeOverPrompt } from '../records/messages/messages.ts';
import { withDefaultTitle } from '../records/session-fields.ts';
import type { IdempotencyDocument } from '../records/turn-documents.ts';
import { type Admission, admit } from '../turns/lease.ts';
import { hasCompanionState, withCompanionState } from './companion-state.ts';
import { takeKey } from './idempotency.ts';
import type { AdmissionDeps } from './prompt-request.ts';
import { type Attempt, type Decision, follow, refuse, type Step } from './step.ts';

/** `record`: the idempotency record of the prompt; `earlier`: the same record if an earlier attempt has released it. */
export function placePrompt(
  deps: AdmissionDeps,
  attempt: Attempt,
  current: ConversationDocument,
  { record, earlier }: Readonly<Record<'record' | 'earlier', IdempotencyDocument | undefined>>,
): Decision {
  const { ref, keyRef, turnId, request, nowMs } = attempt;
  const entry = current.queue.find((queued) => queued.turn_id === turnId);
  const promptTurn = (entry ?? earlier)?.prompt_turn ?? null;
  const admission = admit(current, {
    turnId,
    paramsHash: request.idempotency?.paramsHash,
    promptTurn,
    model: request.model,
    onBusy: request.onBusy,
    idempotencyId: keyRef?.id ?? null,
    nowMs,
    leaseMs: deps.turns.leaseMs,
    owners: deps.owners,
  });
  const isOurs = record?.turn_id === turnId;
  const keyWrites = keyRef === undefined || isOurs ? [] : [takeKey(keyRef, record, turnId, request, nowMs)];
  switch (admission.kind) {
    case 'abandoned':
    case 'unknown_owner':
      return follow(() => admission);
    case 'busy':
      return refuse(() => busy(admission, current));
    case 'running':
      // An earlier commit of this instance whose response was lost.
      return follow(() => admitted(current, false));
    case 'waiting': {
      const { conversation } = admission;
      const writes = conversation === undefined ? [] : [Conversations.write(ref, conversation)];
      return { writes, toStep: () => ({ kind: 'waiting', stopping: undefined }) };
    }
    case 'queued': {
      const stopping = request.onBusy === 'interrupt' ? (admission.conversation.turn ?? undefined) : undefined;
      return {
        writes: [Conversations.write(ref, admission.conversation), ...keyWrites],
        toStep: () => {
          if (stopping !== undefined) deps.stopLocal(stopping.turn_id, 'replaced');
          return { kind: 'waiting', stopping };
        },
      };
    }
    case 'admitted': {
      const hadTools = hasCompanionState(current, 'mcp');
      const hasTools = request.canForward ? hadTools : request.found?.tools !== undefined;
      const marked = withCompanionState(deps.retention.stamp(admission.conversation), 'mcp', hasTools);
      const { conversation, writes } = withPrompt(marked, promptTurn, attempt);
      return {
        writes: [Conversations.write(ref, conversation), ...writes, ...keyWrites],
        toStep: () => admitted(conversation, hadTools && !hasTools),
      };
    }
  }
}

/**
 * Adds the message of the prompt: the stored one of an earlier attempt (`promptTurn`), or a new one. After `afterSeq`
 * it is always a new one, because that of an earlier attempt is dropped.
 */
function withPrompt(
  conversation: ConversationDocument,
  promptTurn: string | null,
  { turnId, request, now }: Attempt,
): ChangedMessages {
  const { prompt, parts, afterSeq } = request;
  const isRepeated = promptTurn !== null && afterSeq === undefined;
  const taken = isRepeated ? takeOverPrompt(conversation, promptTurn, turnId) : undefined;
  if (taken !== undefined) return taken;
  const cut = afterSeq === undefined ? undefined : dropMessages(conversation, afterSeq, turnId);
  const titled = withDefaultTitle(cut?.conversation ?? conversation, prompt);
  const added = appendMessage(titled, { role: 'user', text: prompt, parts, turnId, now, partial: false });
  return { ...added, writes: lastOfEach([...(cut?.writes ?? []), ...added.writes]) };
}

/** The last write of each document: the parts of a new text may replace those of a dropped one. */
function lastOfEach(writes: readonly Write[]): readonly Write[] {
  return [...new Map(writes.map((write) => [refKey(write.ref), write])).values()];
}

function admitted(conversation: ConversationDocument, mcpLost: boolean): Step {
  if (conversation.turn === null) throw new Error('an admitted conversation has a lease');
  return { kind: 'admitted', conversation, lease: conversation.turn, mcpLost };
}

function busy({ lease, queueFull }: Extract<Admission, { kind: 'busy' }>, current: ConversationDocument): RpcError {
  const turnId = lease?.turn_id ?? current.queue[0]?.turn_id;
  return new RpcError(queueFull ? 'queue_full' : 'session_busy', {
    data: { session_id: current.session_id, turn_id: turnId },
    retryAfterMs: 1_000,
  });
}
