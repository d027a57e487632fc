// The one transaction that decides what happens to a prompt: it takes the session's lease and records the message and
// the idempotency key, or a place in the queue; or it finds another turn to wait for.
import { RpcError } from '../../errors.ts';
import type { Ref, Snapshot, Write } from '../../store/store.ts';
import { transact } from '../../store/transact.ts';
import {
  type ConversationDocument,
  Conversations,
  IDEMPOTENCY_KEPT_MS,
  type IdempotencyDocument,
  IdempotencyRecords,
  idempotencyRef,
  type Lease,
} from '../records/documents.ts';
import { appendMessage, takeOverPrompt } from '../records/messages.ts';
import { messageBytes, storageFull, storageRef } from '../storage.ts';
import { admit, newConversation } from '../turns/lease.ts';
import type { AdmissionDeps, PromptRequest } from './admission.ts';
import { hasCompanionState, withCompanionState } from './companion-state.ts';

export type Step =
  | {
      readonly kind: 'admitted';
      readonly conversation: ConversationDocument;
      readonly lease: Lease;
      /** The session had MCP servers, and here are none. */
      readonly mcpLost: boolean;
    }
  /** The companion holds the session's tools. */
  | { readonly kind: 'elsewhere' }
  /** The idempotency key is taken: this turn answers for it. */
  | { readonly kind: 'duplicate'; readonly turnId: string; readonly sessionId: string }
  | { readonly kind: 'erasing' }
  /** An attempt before this one has begun this session for the prompt. */
  | { readonly kind: 'begun'; readonly sessionId: string }
  | { readonly kind: 'abandoned' | 'doubtful'; readonly lease: Lease }
  /** Prompts in the queue whose instances are gone have to leave it first. */
  | { readonly kind: 'expired' }
  /** In the queue; `stopping` is the running turn that was asked to make room. */
  | { readonly kind: 'waiting'; readonly stopping: Lease | undefined };

/** `queued`: the prompt has had a place in the queue, and finding it gone means that it was dropped. */
export async function decide(
  deps: AdmissionDeps,
  ref: Ref,
  turnId: string,
  request: PromptRequest,
  queued: boolean,
): Promise<Step> {
  const { store, cache, clock, ids, turns, owners, ledger, storageBytesMax } = deps;
  const { idempotency } = request;
  const keyRef = idempotency && idempotencyRef(request.owner, idempotency.key);
  const conversationId = ids.next('conv');
  const nowMs = clock.now();
  const now = new Date(nowMs).toISOString();
  const promptBytes = messageBytes({ bytes: Buffer.byteLength(request.prompt) });
  const knownBytes = ledger.stored(request.owner);
  // Refused only by what the store says now: another instance may have deleted something.
  const asksStorage = !queued && (knownBytes === undefined || knownBytes + promptBytes > storageBytesMax);
  const storage = asksStorage ? storageRef(request.owner) : undefined;
  const refs = [ref, keyRef, storage].filter((each) => each !== undefined);
  const { result, snapshots } = await transact<() => Step>(
    store,
    refs,
    (read) => {
      const [snapshot] = read;
      const record = keyRef === undefined ? undefined : IdempotencyRecords.read(read[1]);
      const isOurs = record?.turn_id === turnId;
      if (record !== undefined && !isOurs && record.released !== true) {
        return { writes: [], result: () => duplicate(record, request) };
      }
      const before = record?.released === true && record.params_hash === idempotency?.paramsHash ? record : undefined;
      if (before !== undefined && before.session_id !== request.sessionId) {
        return { writes: [], result: () => ({ kind: 'begun', sessionId: before.session_id }) };
      }
      const { refusal } = request;
      if (refusal !== undefined) return { writes: [], result: () => refuse(refusal) };
      const storedBytes = storage === undefined ? 0 : ledger.learn(request.owner, read.at(-1));
      if (storedBytes + promptBytes > storageBytesMax && storage !== undefined) {
        return { writes: [], result: () => refuse(storageFull(storedBytes, storageBytesMax)) };
      }
      if (Conversations.read(snapshot)?.deleted === true) return { writes: [], result: () => ({ kind: 'erasing' }) };
      const current =
        cache.read(snapshot) ?? newConversation(request.owner, request.sessionId, conversationId, request.model, now);
      if (queued && !isKnown(current, turnId)) return { writes: [], result: dropped };
      if (!queued && request.canForward && hasCompanionState(current, 'mcp')) return { writes: [], result: elsewhere };
      if (current.queue.some((entry) => entry.turn_id !== turnId && !owners.isWaiting(entry))) {
        return { writes: [], result: () => ({ kind: 'expired' }) };
      }
      const place = current.queue.find((entry) => entry.turn_id === turnId);
      const promptTurn = (place ?? before)?.prompt_turn ?? null;
      const admission = admit(current, {
        turnId,
        paramsHash: idempotency?.paramsHash,
        promptTurn,
        model: request.model,
        onBusy: request.onBusy,
        idempotencyId: keyRef?.id ?? null,
        nowMs,
        leaseMs: turns.leaseMs,
        owners,
      });
      const more = (): Write[] => [
        ...(keyRef === undefined || isOurs ? [] : [keyWrite(keyRef, record, turnId, request, nowMs)]),
      ];
      switch (admission.kind) {
        case 'abandoned':
        case 'doubtful':
          return { writes: [], result: () => admission };
        case 'busy':
          return { writes: [], result: () => busy(admission, current) };
        case 'running':
          // Our own commit, found again after an unconfirmed answer.
          return { writes: [], result: () => admitted(current, false) };
        case 'waiting': {
          const { conversation } = admission;
          return {
            writes: conversation === undefined ? [] : [Conversations.write(ref, conversation)],
            result: () => ({ kind: 'waiting', stopping: undefined }),
          };
        }
        case 'queued': {
          const stopping = request.onBusy === 'interrupt' ? (admission.conversation.turn ?? undefined) : undefined;
          return {
            writes: [Conversations.write(ref, admission.conversation), ...more()],
            result: () => {
              if (stopping !== undefined) deps.stopLocal(stopping.turn_id, 'replaced');
              return { kind: 'waiting', stopping };
            },
          };
        }
        case 'admitted': {
          const hasTools = request.canForward ? hasCompanionState(current, 'mcp') : request.hasTools(request.sessionId);
          const marked = withCompanionState(admission.conversation, 'mcp', hasTools);
          const { conversation, writes } =
            (promptTurn === null ? undefined : takeOverPrompt(marked, promptTurn, turnId)) ??
            appendMessage(marked, { role: 'user', text: request.prompt, turnId, now, partial: false });
          return {
            writes: [Conversations.write(ref, conversation), ...writes, ...more()],
            result: () => admitted(conversation, hasCompanionState(current, 'mcp') && !hasTools),
          };
        }
      }
    },
    {
      cached: queued || asksStorage || request.refusal !== undefined ? undefined : expected(deps, ref, keyRef, request),
    },
  );
  cache.set(ref, snapshots[0]);
  return result();
}

/**
 * What the store will most likely hold, so that the first commit needs no read before it: the session as this instance
 * left it, or nothing for one that is new; and an idempotency key that is unused. Wrong guesses conflict and are
 * read.
 */
function expected(
  { cache }: AdmissionDeps,
  ref: Ref,
  keyRef: Ref | undefined,
  request: PromptRequest,
): readonly Snapshot[] | undefined {
  const known = request.isNew ? [absent(ref)] : cache.get(ref);
  return known === undefined || keyRef === undefined ? known : [...known, absent(keyRef)];
}

function absent(ref: Ref): Snapshot {
  return { ref, data: undefined, version: null };
}

function refuse(error: RpcError): never {
  throw error;
}

function elsewhere(): Step {
  return { kind: 'elsewhere' };
}

function admitted(conversation: ConversationDocument, mcpLost: boolean): Step {
  if (conversation.turn === null) throw new Error('an admitted conversation has a lease');
  return { kind: 'admitted', conversation, lease: conversation.turn, mcpLost };
}

function duplicate(record: IdempotencyDocument, request: PromptRequest): Step {
  if (record.params_hash !== request.idempotency?.paramsHash) {
    throw new RpcError('invalid_params', {
      message: 'Invalid params: this idempotency key was used with other params',
      data: {
        issues: [
          { path: 'idempotency_key', message: 'was used with other params in the last 24 hours; choose a new key' },
        ],
      },
    });
  }
  return { kind: 'duplicate', turnId: record.turn_id, sessionId: record.session_id };
}

/** `before`: the record of an attempt that has released the key. */
function keyWrite(
  ref: Ref,
  before: IdempotencyDocument | undefined,
  turnId: string,
  { idempotency, sessionId }: PromptRequest,
  nowMs: number,
): Write {
  const { released: _released, prompt_turn: _prompt, ...others } = before ?? {};
  const named = { params_hash: idempotency?.paramsHash ?? '', turn_id: turnId, session_id: sessionId };
  return IdempotencyRecords.write(ref, { ...others, ...named }, { expireAtMs: nowMs + IDEMPOTENCY_KEPT_MS });
}

function busy(
  admission: { readonly lease: Lease | null; readonly queueFull: boolean },
  current: ConversationDocument,
): never {
  const turnId = admission.lease?.turn_id ?? current.queue[0]?.turn_id;
  throw new RpcError(admission.queueFull ? 'queue_full' : 'session_busy', {
    data: { session_id: current.session_id, turn_id: turnId },
    retryAfterMs: 1_000,
  });
}

function dropped(): never {
  throw new RpcError('cancelled', { message: 'the queued prompt was cancelled before it ran' });
}

/** Whether this turn runs or waits in the session. */
export function isKnown(conversation: ConversationDocument, turnId: string): boolean {
  return conversation.turn?.turn_id === turnId || conversation.queue.some((entry) => entry.turn_id === turnId);
}
