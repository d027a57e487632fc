// Admits a prompt: decides (decide.ts), and where another turn comes first settles, waits or asks to stop, and decides
// again, until the turn is ours to run, answered by another, or refused.
import { createHash } from 'node:crypto';
import type { Ids } from '../../clock.ts';
import { RunsOnCompanion } from '../../engines/place.ts';
import { RpcError, toRpcError } from '../../errors.ts';
import type { Ref } from '../../store/store.ts';
import type { TurnDeps } from '../deps.ts';
import { type ConversationDocument, conversationRef, type Lease } from '../records/documents.ts';
import { settleAbandoned } from '../turns/abandoned.ts';
import { awaitConversation } from '../turns/await-conversation.ts';
import type { OnBusy } from '../turns/lease.ts';
import { decide, isKnown, type Step } from './decide.ts';
import { type DropReason, leaveQueue } from './queue.ts';

/** A waiting prompt looks again at least this often: to keep its place, and to find the turn before it abandoned. */
const QUEUE_WAKE_MS = 8_000;

export interface PromptRequest {
  readonly owner: string;
  readonly sessionId: string;
  /** The session id was made for this prompt. */
  readonly isNew: boolean;
  readonly prompt: string;
  /** Resolved, `provider/model`. */
  readonly model: string;
  readonly onBusy: OnBusy;
  readonly idempotency: { readonly key: string; readonly paramsHash: string } | undefined;
  /** The prompt can go to the companion instead, and must when that holds the session's tools. */
  readonly canForward: boolean;
  /** Whether this instance has tools for the session, now. */
  hasTools(sessionId: string): boolean;
  /** Why no new turn may begin; a duplicate is answered all the same. */
  readonly refusal: RpcError | undefined;
}

export type Admitted =
  | {
      readonly kind: 'admitted';
      readonly ref: Ref;
      readonly conversation: ConversationDocument;
      readonly lease: Lease;
      readonly mcpLost: boolean;
    }
  /** The idempotency key is taken: this turn answers for it. */
  | { readonly kind: 'duplicate'; readonly turnId: string; readonly sessionId: string };

export interface AdmissionDeps extends TurnDeps {
  readonly ids: Ids;
  /** Aborted when this instance drains: what waits here must not keep its place. */
  readonly closing: AbortSignal;
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

/**
 * Resolves once the turn runs under our lease, or is found to be a duplicate. Throws `session_busy`, `queue_full`,
 * `cancelled`, RunsOnCompanion.
 */
export async function admitPrompt(deps: AdmissionDeps, asked: PromptRequest): Promise<Admitted> {
  const { clock, turns, closing } = deps;
  let request = asked;
  let ref = conversationRef(request.owner, request.sessionId);
  const turnId = deps.ids.next('turn');
  const giveUpAtMs = clock.monotonic() + turns.timeoutMs;
  let queued = false;
  let retried = false;
  const leave = async (reason: DropReason): Promise<void> => {
    if (queued) await leaveQueue(deps, ref, (entry) => entry.turn_id === turnId, reason);
  };
  for (;;) {
    if (closing.aborted) {
      await leave('interrupted');
      throw new RpcError('unavailable', { message: 'this instance is shutting down', retryAfterMs: 1_000 });
    }
    if (clock.monotonic() > giveUpAtMs) {
      await leave('expired');
      throw new RpcError('session_busy', { message: 'the session stayed busy until the wait timed out' });
    }
    let step: Step;
    try {
      step = await decide(deps, ref, turnId, request, queued);
      retried = false;
    } catch (error) {
      // An unconfirmed commit may have been applied: asking once more finds our own lease instead of leaving the
      // session busy.
      if (retried || toRpcError(error).reason !== 'unavailable') throw error;
      retried = true;
      continue;
    }
    switch (step.kind) {
      case 'elsewhere':
        throw new RunsOnCompanion();
      case 'admitted':
        return { ...step, ref };
      case 'duplicate':
        return step;
      case 'erasing':
        await deps.erase(ref);
        break;
      case 'begun':
        request = { ...request, sessionId: step.sessionId, isNew: false };
        ref = conversationRef(request.owner, request.sessionId);
        break;
      case 'expired':
        await leaveQueue(deps, ref, (entry) => entry.turn_id !== turnId && !deps.owners.isWaiting(entry), 'expired');
        break;
      case 'abandoned':
        await settleAbandoned(deps, ref, step.lease, { reason: 'interrupted' });
        break;
      case 'doubtful':
        await waitForOwner(deps, ref, step.lease);
        break;
      case 'waiting':
        queued = true;
        if (step.stopping !== undefined) await deps.awaitStop(ref, step.stopping);
        else await waitForTurn(deps, ref, turnId);
        break;
    }
  }
}

/**
 * Resolves when it may be our turn, when our place is gone, when the running turn's lease is over, or after
 * QUEUE_WAKE_MS.
 */
function waitForTurn({ store, turns, owners, closing }: AdmissionDeps, ref: Ref, turnId: string): Promise<void> {
  const isDone = (conversation: ConversationDocument | undefined): boolean => {
    if (conversation === undefined || !isKnown(conversation, turnId)) return true;
    if (conversation.turn === null) return conversation.queue[0]?.turn_id === turnId;
    return owners.ofLease(conversation.turn) === 'gone';
  };
  return awaitConversation(store, ref, Math.min(QUEUE_WAKE_MS, turns.heartbeatMs), isDone, closing);
}

/** Resolves when the lease has changed, or has been doubtful for so long that its owner is gone. */
function waitForOwner({ store, owners, closing }: AdmissionDeps, ref: Ref, lease: Lease): Promise<void> {
  const isDone = (conversation: ConversationDocument | undefined): boolean =>
    conversation?.turn?.lease_until_ms !== lease.lease_until_ms;
  return awaitConversation(store, ref, owners.doubtMs, isDone, closing);
}
