// Admits a prompt: decides (decide.ts), and where another turn comes first settles it, waits for it or stops it, then
// decides again, until this turn has the lease, another turn is the answer, or the prompt is refused.
import type { Toolset } from '../../engines/engine.ts';
import { RunsOnCompanion } from '../../engines/place.ts';
import { RpcError, toRpcError } from '../../errors.ts';
import type { Ref } from '../../store/store.ts';
import { type ConversationDocument, conversationRef, type Lease } from '../records/documents.ts';
import { awaitConversation } from '../turns/await-document.ts';
import { settleAbandoned } from '../turns/end/abandoned.ts';
import { hasCompanionState } from './companion-state.ts';
import { decide, isInSession } from './decide.ts';
import type { AdmissionDeps, PromptRequest } from './prompt-request.ts';
import { type DropReason, leaveQueue } from './queue.ts';
import type { Step } from './step.ts';

/**
 * A waiting prompt decides again at least this often: it renews its queue entry, and detects an abandoned running turn.
 */
const QUEUE_WAKE_MS = 8_000;

export type Admitted =
  | {
      readonly kind: 'admitted';
      readonly ref: Ref;
      readonly conversation: ConversationDocument;
      readonly lease: Lease;
      readonly mcpLost: boolean;
      readonly tools: Toolset | undefined;
    }
  /** Another turn has the idempotency key; its answer is returned. */
  | { readonly kind: 'duplicate'; readonly turnId: string; readonly sessionId: string };

/**
 * Resolves when this turn has the lease, or another turn has the idempotency key. Throws `session_busy`, `queue_full`,
 * `cancelled`, RunsOnCompanion.
 */
export async function admitPrompt(deps: AdmissionDeps, given: PromptRequest): Promise<Admitted> {
  const { clock, turns, closing } = deps;
  let request = given;
  let ref = conversationRef(request.owner, request.sessionId);
  const findTools = async (): Promise<void> => {
    const tools = await deps.toolset?.(request.owner, request.sessionId, closing);
    request = { ...request, found: { tools } };
  };
  const turnId = deps.ids.next('turn');
  const giveUpAtMs = clock.monotonic() + turns.timeoutMs;
  let queued = false;
  let retried = false;
  const leave = async (reason: DropReason): Promise<void> => {
    if (queued) await leaveQueue(deps, ref, (entry) => entry.turn_id === turnId, reason);
  };
  // The first decision is made while the limiter counts the call; what follows from it is done when it is admitted.
  const counted = async (): Promise<void> => {
    const { counting } = request;
    counting?.ride.end('left');
    await counting?.admitted;
    request = { ...request, counting: undefined };
  };
  // If the cached session has the mark, the first decision already needs its tools.
  const [cached] = deps.cache.get(ref) ?? [];
  const conversation = cached && deps.cache.read(cached);
  if (!request.canForward && conversation && hasCompanionState(conversation, 'mcp')) {
    await counted();
    await findTools();
  }
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
      await counted();
      // A queued prompt that cannot run any more: another one has dropped the message that it follows.
      if (toRpcError(error).reason === 'invalid_params') await leave('expired');
      // A commit with an unknown outcome may have been applied: the second attempt then finds this turn's lease, so
      // that the session does not stay busy.
      if (retried || toRpcError(error).reason !== 'unavailable') throw error;
      retried = true;
      continue;
    }
    await counted();
    switch (step.kind) {
      case 'on_companion':
        throw new RunsOnCompanion();
      case 'admitted':
        return { ...step, ref, tools: request.found?.tools };
      case 'tools':
        await findTools();
        break;
      case 'duplicate':
        return step;
      case 'erasing':
        await deps.erase(ref);
        break;
      case 'started':
        request = { ...request, sessionId: step.sessionId, isNew: false, found: undefined };
        ref = conversationRef(request.owner, request.sessionId);
        break;
      case 'expired':
        await leaveQueue(deps, ref, (entry) => entry.turn_id !== turnId && !deps.owners.isWaiting(entry), 'expired');
        break;
      case 'abandoned':
        await settleAbandoned(deps, ref, step.lease, { reason: 'interrupted' });
        break;
      case 'unknown_owner':
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
 * Resolves when this turn may be the next, its queue entry is missing, the lease of the running turn has expired, or
 * after QUEUE_WAKE_MS.
 */
function waitForTurn({ store, turns, owners, closing }: AdmissionDeps, ref: Ref, turnId: string): Promise<void> {
  const isDone = (conversation: ConversationDocument | undefined): boolean => {
    if (conversation === undefined || !isInSession(conversation, turnId)) return true;
    if (conversation.turn === null) return conversation.queue[0]?.turn_id === turnId;
    return owners.ofLease(conversation.turn) === 'expired';
  };
  return awaitConversation(store, ref, Math.min(QUEUE_WAKE_MS, turns.heartbeatMs), isDone, closing);
}

/** Resolves when the lease has changed, or after the longest time for which its owner can be unknown. */
function waitForOwner({ store, owners, closing }: AdmissionDeps, ref: Ref, lease: Lease): Promise<void> {
  const isDone = (conversation: ConversationDocument | undefined): boolean =>
    conversation?.turn?.lease_until_ms !== lease.lease_until_ms;
  return awaitConversation(store, ref, owners.unknownMsMax, isDone, closing);
}
