// Admits a prompt: the one transaction that takes the session's lease, records the message and the idempotency key; and the wait of a
// prompt that is queued behind another.
import { createHash } from 'node:crypto';
import type { Ids } from '../clock.ts';
import { RpcError, toRpcError } from '../errors.ts';
import type { Ref, Snapshot, Store, Write } from '../store/store.ts';
import { transact } from '../store/transact.ts';
import { dropQueued, settleAbandoned } from './abandoned.ts';
import {
  type ConversationDocument,
  conversationRef,
  IDEMPOTENCY_KEPT_MS,
  type IdempotencyDocument,
  idempotencyRef,
  type Lease,
} from './documents.ts';
import { appendMessage } from './history.ts';
import { admit, isAbandoned, liveQueue, newConversation, type OnBusy } from './lease.ts';
import type { RunnerParts } from './turn-runner.ts';

/** A place in the queue is renewed at least this often. */
const QUEUE_WAKE_MS = 8_000;

export interface PromptRequest {
  readonly owner: string;
  readonly sessionId: string;
  readonly prompt: string;
  /** Resolved, `provider/model`. */
  readonly model: string;
  readonly onBusy: OnBusy;
  readonly idempotency: { readonly key: string; readonly paramsHash: string } | undefined;
}

export type Admitted =
  | {
      readonly kind: 'admitted';
      readonly ref: Ref;
      readonly conversation: ConversationDocument;
      readonly lease: Lease;
      readonly idempotencyRef: Ref | undefined;
    }
  /** The idempotency key is taken: this turn answers for it. */
  | { readonly kind: 'duplicate'; readonly ref: Ref; readonly turnId: string; readonly sessionId: string };

export interface AdmissionParts extends RunnerParts {
  readonly ids: Ids;
  /** Asks a running turn of this process to stop; the store's watch reaches the others. */
  stopLocal(turnId: string, reason: 'replaced'): void;
  /** Ends a turn that was asked to stop, at the latest by force. */
  awaitStop(ref: Ref, lease: Lease): Promise<void>;
  /** Finishes the erasure of a session that is being deleted. */
  erase(ref: Ref): Promise<void>;
}

/** Same key with other params is a mistake of the caller; this is what "same" means. */
export function hashParams(params: Readonly<Record<string, unknown>>): string {
  const sorted = Object.entries(params)
    .filter(([, value]) => value !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1));
  return createHash('sha256').update(JSON.stringify(sorted)).digest('base64url');
}

/** Resolves once the turn runs under our lease, or is found to be a duplicate. Throws `session_busy`, `queue_full`, `cancelled`. */
export async function admitPrompt(parts: AdmissionParts, request: PromptRequest): Promise<Admitted> {
  const { store, clock, turns } = parts;
  const ref = conversationRef(request.owner, request.sessionId);
  const turnId = parts.ids.next('turn');
  const giveUpAtMs = clock.now() + turns.timeoutMs;
  let queued = false;
  let retried = false;
  for (;;) {
    let step: Step;
    try {
      step = await decide(parts, ref, turnId, request, queued);
    } catch (error) {
      // An unconfirmed commit may have been applied: asking once more finds our own lease instead of leaving the session busy.
      if (retried || toRpcError(error).reason !== 'unavailable') throw error;
      retried = true;
      continue;
    }
    switch (step.kind) {
      case 'admitted':
        return { ...step, ref };
      case 'duplicate':
        return {
          kind: 'duplicate',
          ref: conversationRef(request.owner, step.sessionId),
          turnId: step.turnId,
          sessionId: step.sessionId,
        };
      case 'erasing':
        await parts.erase(ref);
        break;
      case 'abandoned':
        await settleAbandoned(parts, ref, step.lease, { reason: 'interrupted' });
        break;
      case 'waiting':
        queued = true;
        if (step.stopping !== undefined) await parts.awaitStop(ref, step.stopping);
        else await waitForTurn(store, ref, turnId, clock.now());
        if (clock.now() > giveUpAtMs)
          throw new RpcError('session_busy', { message: 'the session stayed busy until the wait timed out' });
        break;
    }
  }
}

type Step =
  | {
      readonly kind: 'admitted';
      readonly conversation: ConversationDocument;
      readonly lease: Lease;
      readonly idempotencyRef: Ref | undefined;
    }
  | { readonly kind: 'duplicate'; readonly turnId: string; readonly sessionId: string }
  | { readonly kind: 'erasing' }
  | { readonly kind: 'abandoned'; readonly lease: Lease }
  | { readonly kind: 'waiting'; readonly stopping: Lease | undefined };

/** One transaction: what happens to the prompt now. */
async function decide(
  parts: AdmissionParts,
  ref: Ref,
  turnId: string,
  request: PromptRequest,
  queued: boolean,
): Promise<Step> {
  const { store, cache, clock, ids, turns } = parts;
  const { idempotency } = request;
  const keyRef = idempotency && idempotencyRef(request.owner, idempotency.key);
  const conversationId = ids.next('conv');
  const nowMs = clock.now();
  const now = new Date(nowMs).toISOString();
  const refs = keyRef === undefined ? [ref] : [ref, keyRef];
  const cached = keyRef === undefined ? cache.get(ref) : undefined;
  const { result, snapshots } = await transact<() => Step>(
    store,
    refs,
    ([snapshot, keySnapshot]) => {
      const record = keySnapshot?.data as IdempotencyDocument | undefined;
      if (record !== undefined && record.turn_id !== turnId) {
        return { writes: [], result: () => duplicate(record, request) };
      }
      if (isTombstone(snapshot)) return { writes: [], result: () => ({ kind: 'erasing' }) };
      const current =
        cache.read(snapshot) ?? newConversation(request.owner, request.sessionId, conversationId, request.model, now);
      if (queued && !isKnown(current, turnId)) return { writes: [], result: dropped };
      const admission = admit(current, {
        turnId,
        model: request.model,
        onBusy: request.onBusy,
        idempotencyId: keyRef?.id ?? null,
        nowMs,
        leaseMs: turns.leaseMs,
      });
      const keyWrites: Write[] =
        keyRef === undefined || idempotency === undefined || record !== undefined
          ? []
          : [
              {
                ref: keyRef,
                data: keyRecord(idempotency.paramsHash, turnId, request),
                expireAtMs: nowMs + IDEMPOTENCY_KEPT_MS,
              },
            ];
      switch (admission.kind) {
        case 'abandoned':
          return { writes: [], result: () => admission };
        case 'busy':
          return { writes: [], result: () => busy(admission, current) };
        case 'running': {
          // Our own commit, found again after an unconfirmed answer.
          const { turn } = current;
          return { writes: [], result: () => admittedStep(current, turn, keyRef) };
        }
        case 'waiting': {
          const { conversation } = admission;
          return {
            writes: conversation === undefined ? [] : [{ ref, data: conversation }],
            result: () => ({ kind: 'waiting', stopping: undefined }),
          };
        }
        case 'queued': {
          const stopping = request.onBusy === 'interrupt' ? (admission.conversation.turn ?? undefined) : undefined;
          return {
            writes: [
              { ref, data: withoutExpired(admission.conversation, nowMs) },
              ...keyWrites,
              ...expired(ref, current, nowMs),
            ],
            result: () => {
              if (stopping !== undefined) parts.stopLocal(stopping.turn_id, 'replaced');
              return { kind: 'waiting', stopping };
            },
          };
        }
        case 'admitted': {
          const { conversation, writes } = appendMessage(ref, admission.conversation, {
            role: 'user',
            text: request.prompt,
            turnId,
            now,
            partial: false,
          });
          return {
            writes: [{ ref, data: conversation }, ...writes, ...keyWrites, ...expired(ref, current, nowMs)],
            result: () => admittedStep(conversation, conversation.turn, keyRef),
          };
        }
      }
    },
    { cached },
  );
  cache.set(ref, snapshots[0]);
  return result();
}

function admittedStep(conversation: ConversationDocument, lease: Lease | null, keyRef: Ref | undefined): Step {
  if (lease === null) throw new Error('an admitted conversation has a lease');
  return { kind: 'admitted', conversation, lease, idempotencyRef: keyRef };
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

function keyRecord(paramsHash: string, turnId: string, request: PromptRequest): IdempotencyDocument {
  return { params_hash: paramsHash, turn_id: turnId, session_id: request.sessionId };
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

function isKnown(conversation: ConversationDocument, turnId: string): boolean {
  return conversation.turn?.turn_id === turnId || conversation.queue.some((entry) => entry.turn_id === turnId);
}

function isTombstone(snapshot: Snapshot | undefined): boolean {
  return snapshot?.data !== undefined && 'deleted' in snapshot.data && snapshot.data.deleted === true;
}

function withoutExpired(conversation: ConversationDocument, nowMs: number): ConversationDocument {
  return { ...conversation, queue: liveQueue(conversation, nowMs) };
}

function expired(ref: Ref, conversation: ConversationDocument, nowMs: number): Write[] {
  const gone = conversation.queue.filter((entry) => entry.alive_until_ms <= nowMs);
  return dropQueued(ref, conversation, gone, 'expired', nowMs);
}

/** Resolves when it may be our turn, when our place is gone, when the running turn's lease is over, or after QUEUE_WAKE_MS. */
function waitForTurn(store: Store, ref: Ref, turnId: string, nowMs: number): Promise<void> {
  return waitForConversation(store, ref, QUEUE_WAKE_MS, (conversation) => {
    if (conversation === undefined || !isKnown(conversation, turnId)) return true;
    if (conversation.turn === null) return conversation.queue[0]?.turn_id === turnId;
    return isAbandoned(conversation.turn, nowMs);
  });
}

/** Watches a conversation until `isDone` says so or the time is up; a failing watch just waits the time out. */
export function waitForConversation(
  store: Store,
  ref: Ref,
  timeoutMs: number,
  isDone: (conversation: ConversationDocument | undefined) => boolean,
): Promise<void> {
  return new Promise((resolve) => {
    let unwatch: (() => void) | undefined;
    let done = false;
    const finish = (): void => {
      done = true;
      clearTimeout(timer);
      unwatch?.();
      resolve();
    };
    const timer = setTimeout(finish, timeoutMs);
    unwatch = store.watch<ConversationDocument>(ref, ({ data }) => {
      if (!done && isDone(data)) finish();
    });
    if (done) unwatch();
  });
}
