// The one transaction that decides what happens to a prompt: it takes the session's lease and stores the message and
// the idempotency key, or appends the prompt to the queue, or returns another turn for which the prompt must wait.
import { RpcError } from '../../errors.ts';
import { ridingStore } from '../../store/ride.ts';
import type { Ref, Snapshot } from '../../store/store.ts';
import { transact } from '../../store/transact.ts';
import { type ConversationDocument, Conversations } from '../records/documents.ts';
import { encodeDetail } from '../records/messages/message-detail.ts';
import { messageBytes, storageFull, storageRef } from '../records/storage.ts';
import { IdempotencyRecords, idempotencyRef } from '../records/turn-documents.ts';
import { newConversation } from '../turns/lease.ts';
import { hasCompanionState } from './companion-state.ts';
import { duplicateOf, earlierAttempt, isTaken } from './idempotency.ts';
import { placePrompt } from './place-prompt.ts';
import type { AdmissionDeps, PromptRequest } from './prompt-request.ts';
import { type Attempt, type Decision, follow, refuse, type Step } from './step.ts';

export async function decide(
  deps: AdmissionDeps,
  ref: Ref,
  turnId: string,
  request: PromptRequest,
  queued: boolean,
): Promise<Step> {
  const { cache } = deps;
  const { counting } = request;
  const isStored = (snapshot: Snapshot | undefined): boolean => {
    const conversation = cache.read(snapshot);
    return conversation !== undefined && (isInSession(conversation, turnId) || hasPrompt(conversation, turnId));
  };
  const store = counting === undefined ? deps.store : ridingStore(deps.store, counting, { ref, isStored });
  const attempt = toAttempt(deps, ref, turnId, request, queued);
  const { keyRef, totalRef } = attempt;
  const mustRead = queued || totalRef !== undefined || request.refusal !== undefined;
  const [known] = cache.get(ref) ?? [];
  let found: Snapshot | undefined;
  const { result, snapshots } = await transact<() => Step>(
    store,
    [ref, keyRef, totalRef].filter((each) => each !== undefined),
    (read) => {
      [found] = read;
      const { writes, toStep } = compute(deps, attempt, read);
      return { writes, result: toStep };
    },
    { cached: mustRead ? undefined : expectedSnapshots(deps, attempt) },
  );
  if (known !== undefined && found?.version !== known.version) cache.outdated(known);
  cache.set(ref, snapshots[0]);
  return result();
}

function toAttempt(
  { ids, clock, ledger, storageBytesMax }: AdmissionDeps,
  ref: Ref,
  turnId: string,
  request: PromptRequest,
  queued: boolean,
): Attempt {
  const { owner, prompt, parts = [], idempotency } = request;
  const promptBytes = messageBytes({
    bytes: Buffer.byteLength(prompt) + Buffer.byteLength(encodeDetail(prompt, parts) ?? ''),
  });
  const knownBytes = ledger.stored(owner);
  // A prompt is refused only after a read of the total, because another instance may have deleted messages.
  const readsTotal = !queued && (knownBytes === undefined || knownBytes + promptBytes > storageBytesMax);
  const nowMs = clock.now();
  return {
    ref,
    keyRef: idempotency && idempotencyRef(owner, idempotency.key),
    totalRef: readsTotal ? storageRef(owner) : undefined,
    turnId,
    request,
    queued,
    conversationId: ids.next('conv'),
    promptBytes,
    nowMs,
    now: new Date(nowMs).toISOString(),
  };
}

/**
 * The expected documents, so that the first commit needs no read: the session as this instance last wrote it, or no
 * document for a new session, and an unused idempotency key. If an expectation is wrong, the commit conflicts and the
 * documents are read.
 */
function expectedSnapshots({ cache }: AdmissionDeps, attempt: Attempt): readonly Snapshot[] | undefined {
  const { ref, keyRef, request } = attempt;
  const known = request.isNew ? [absent(ref)] : cache.get(ref);
  return known === undefined || keyRef === undefined ? known : [...known, absent(keyRef)];
}

function absent(ref: Ref): Snapshot {
  return { ref, data: undefined, version: null };
}

function compute(deps: AdmissionDeps, attempt: Attempt, read: readonly Snapshot[]): Decision {
  const { keyRef, totalRef, turnId, request, queued, promptBytes } = attempt;
  const { ledger, storageBytesMax, cache, owners } = deps;
  const [snapshot] = read;
  const record = keyRef === undefined ? undefined : IdempotencyRecords.read(read[1]);
  if (isTaken(record, turnId)) return follow(() => duplicateOf(record, request));
  const earlier = earlierAttempt(record, request);
  if (earlier !== undefined && earlier.session_id !== request.sessionId) {
    return follow(() => ({ kind: 'started', sessionId: earlier.session_id }));
  }
  const { refusal } = request;
  if (refusal !== undefined) return refuse(() => refusal);
  const storedBytes = totalRef === undefined ? 0 : ledger.cacheTotal(request.owner, read.at(-1));
  if (totalRef !== undefined && storedBytes + promptBytes > storageBytesMax) {
    return refuse(() => storageFull(storedBytes, storageBytesMax));
  }
  const stored = cache.read(snapshot);
  const isGone = stored === undefined && Conversations.read(snapshot) !== undefined;
  if (isGone) return follow(() => ({ kind: 'erasing' }));
  const current = stored ?? newConversationOf(attempt);
  if (!isInSession(current, turnId) && (queued || hasPrompt(current, turnId))) return refuse(dropped);
  const beyond = checkAfterSeq(request, stored);
  if (beyond !== undefined) return refuse(() => beyond);
  if (hasCompanionState(current, 'mcp')) {
    if (!queued && request.canForward) return follow(() => ({ kind: 'on_companion' }));
    if (!request.canForward && request.found === undefined) return follow(() => ({ kind: 'tools' }));
  }
  if (current.queue.some((entry) => entry.turn_id !== turnId && !owners.isWaiting(entry))) {
    return follow(() => ({ kind: 'expired' }));
  }
  return placePrompt(deps, attempt, current, { record, earlier });
}

function newConversationOf({ request, conversationId, now }: Attempt): ConversationDocument {
  return newConversation(request.owner, request.sessionId, conversationId, request.model, now);
}

/** Why `after_seq` names no message of the session; undefined if it does. */
function checkAfterSeq(
  { afterSeq = 0, sessionId }: PromptRequest,
  stored: ConversationDocument | undefined,
): RpcError | undefined {
  const count = stored?.message_count ?? 0;
  if (afterSeq <= count) return undefined;
  if (stored === undefined) {
    return new RpcError('not_found', { message: 'no such session', data: { session_id: sessionId } });
  }
  const message = `must be at most ${count}, the number of the last message of the session`;
  return new RpcError('invalid_params', { data: { issues: [{ path: 'after_seq', message }] } });
}

/**
 * Another caller has removed the prompt from the queue, or has stopped its turn while this instance waited for the
 * response to the commit that admitted it.
 */
function dropped(): RpcError {
  return new RpcError('cancelled', { message: 'the prompt was cancelled before it ran' });
}

/** Whether this turn runs or waits in the session. */
export function isInSession(conversation: ConversationDocument, turnId: string): boolean {
  return conversation.turn?.turn_id === turnId || conversation.queue.some((entry) => entry.turn_id === turnId);
}

/** Whether the session has the message of this turn, also if the turn has ended. */
function hasPrompt({ recent }: ConversationDocument, turnId: string): boolean {
  return recent.some(({ turn_id }) => turn_id === turnId);
}
