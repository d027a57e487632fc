// Runs one admitted turn on this instance: engine -> log, kept alive by its lease, followed by the store, ended by one
// commit. A client that goes away does not stop it; a stop request, the deadline and the loss of the lease do.

import type { Credential, Engine, Outcome, Toolset, TurnInput } from '../../engines/engine.ts';
import { RpcError, toRpcError } from '../../errors.ts';
import { errorFields } from '../../log.ts';
import type { Ref } from '../../store/store.ts';
import { splitText } from '../../text.ts';
import type { Span } from '../../timings.ts';
import type { AbortReason, TurnEvent } from '../../turn-events.ts';
import { estimateUsage } from '../../usage.ts';
import type { TurnDeps } from '../deps.ts';
import type { ContextBudget, ConversationDocument, Lease, TurnDocument } from '../records/documents.ts';
import { createEventLog, type EventLog, type NumberedEvent } from '../records/event-log.ts';
import { createEventFlusher } from './event-flusher.ts';
import { keepLease } from './lease-keeper.ts';
import { settleTurn } from './settle-turn.ts';
import { createTurnRecord, type TurnEnd } from './turn-record.ts';

/** Longer texts in events are cut, so that no event outgrows its chunk document. */
const EVENT_CHARS_MAX = 16 << 10;
/** Of tools that a turn goes without, named in its first event. */
const OMITTED_TOOLS_MAX = 64;

export interface AdmittedTurn {
  readonly ref: Ref;
  readonly conversation: ConversationDocument;
  readonly lease: Lease;
  /** The session had MCP servers that are no more. */
  readonly mcpLost: boolean;
  readonly engine: Engine;
  readonly instructions: string | undefined;
  readonly credential: Credential | undefined;
  readonly tools: Toolset | undefined;
  readonly budgetTokens: number;
  readonly retryWaitMsMax: number | undefined;
  /** What it took to get here. */
  readonly spans: readonly Span[];
}

/** How a turn ended, as stored: the same object for the caller who waited and for everybody who asks later. */
export interface EndedTurn {
  readonly turn: TurnDocument;
  readonly events: readonly NumberedEvent[];
}

export interface RunningTurn {
  readonly turnId: string;
  readonly sessionId: string;
  readonly log: EventLog;
  /** Rejects when the store could not be reached to settle the turn, or the session was deleted. */
  readonly done: Promise<EndedTurn>;
  /** Where its time went; complete when `done`. */
  readonly spans: readonly Span[];
  stop(reason: AbortReason): void;
}

/** The lease is not ours any more: another instance has ended the turn. */
class LeaseLost extends Error {}

export function startTurn(deps: TurnDeps, admitted: AdmittedTurn): RunningTurn {
  const { clock, turns } = deps;
  const { ref, lease, conversation } = admitted;
  const log = createEventLog();
  const record = createTurnRecord({ conversation, lease });
  const controller = new AbortController();
  const spans = [...admitted.spans];
  let stopped: AbortReason | undefined;
  let text = '';
  let contextTokens = 0;
  let budget: ContextBudget | undefined;

  const stop = (reason: AbortReason): void => {
    stopped ??= reason;
    controller.abort(new RpcError('cancelled', { data: { reason: stopped } }));
  };
  const lost = (): void => controller.abort(new LeaseLost('the lease of the turn is lost'));
  const flusher = createEventFlusher(deps, log, record, lost);
  const keeper = keepLease(deps, ref, lease, { stop, lost });
  const deadline = setTimeout(() => {
    const message = `The turn did not end within ${turns.timeoutMs / 1_000} s`;
    controller.abort(new RpcError('upstream_timeout', { message, data: { timeout_ms: turns.timeoutMs, sent: true } }));
  }, turns.timeoutMs);

  const done = run().finally(() => {
    clearTimeout(deadline);
    keeper.release();
    log.close();
  });
  // A waiting caller handles the failure; without one it has been logged already.
  done.catch(() => {});
  return { turnId: lease.turn_id, sessionId: conversation.session_id, log, done, spans, stop };

  async function run(): Promise<EndedTurn> {
    let end: TurnEnd;
    try {
      const { usage, finishReason } = await runEngine();
      end = { status: 'completed', usage, nowMs: clock.now(), failure: null, finishReason };
    } catch (error) {
      end = endOf(error);
    }
    keeper.unwatch();
    return timed('settle', () => settleTurn(deps, { admitted, log, record, flusher, text, end, budget }));
  }

  async function runEngine(): Promise<Outcome> {
    const context = await deps.history.context(conversation, admitted.budgetTokens, lease.turn_id);
    contextTokens = context.tokens;
    const { messages, ...seen } = context;
    if (admitted.mcpLost) deps.log.warn('MCP servers of the session are gone', { turn_id: lease.turn_id });
    append({
      TaskStarted: {
        turn_id: lease.turn_id,
        model: lease.model,
        started_at: lease.started_at,
        context: { ...seen, messages: messages.length },
        ...(admitted.mcpLost && { mcp_lost: true as const }),
        ...toOmitted(admitted.tools?.omitted),
      },
    });
    const input: TurnInput = {
      turnId: lease.turn_id,
      conversationId: conversation.conversation_id,
      model: lease.model,
      messages,
      trimmed: context.trimmed,
      keyId: conversation.owner,
      ...(admitted.instructions === undefined ? {} : { instructions: admitted.instructions }),
      ...(admitted.credential === undefined ? {} : { credential: admitted.credential }),
      ...(admitted.tools === undefined ? {} : { tools: admitted.tools }),
      ...(admitted.retryWaitMsMax === undefined ? {} : { retryWaitMsMax: admitted.retryWaitMsMax }),
    };
    controller.signal.throwIfAborted();
    return timed('model', async () => {
      const generator = admitted.engine.run(input, { signal: controller.signal });
      for (;;) {
        const step = await generator.next();
        if (step.done) return step.value;
        for (const event of inPieces(step.value)) append(event);
        if ('AgentMessageDelta' in step.value) text += step.value.AgentMessageDelta.delta;
        if ('ContextTrimmed' in step.value)
          budget = { model: lease.model, tokens: step.value.ContextTrimmed.budget_tokens };
      }
    });
  }

  function append(event: TurnEvent): void {
    log.append(event);
    flusher.touch();
  }

  async function timed<R>(phase: Span['phase'], work: () => Promise<R>): Promise<R> {
    const startMs = performance.now();
    try {
      return await work();
    } finally {
      spans.push({ phase, startMs, endMs: performance.now() });
    }
  }

  function endOf(error: unknown): TurnEnd {
    const ended = { usage: estimateUsage(contextTokens, text), nowMs: clock.now() };
    if (stopped !== undefined) {
      const status = stopped === 'interrupted' ? 'interrupted' : 'cancelled';
      return { ...ended, status, failure: null, reason: stopped };
    }
    const cause: unknown = controller.signal.aborted ? controller.signal.reason : error;
    // The new owner of the lease has ended the turn, or will; without a new owner, this is its end.
    if (cause instanceof LeaseLost) return { ...ended, status: 'interrupted', failure: null };
    const failure = toRpcError(cause);
    logFailure(failure);
    // Whether the provider got the prompt is not known: made again without a key, it may be answered and kept twice.
    const isSafe = failure.data.sent !== true || lease.idempotency_id !== null;
    return {
      ...ended,
      status: 'failed',
      failure: {
        reason: failure.reason,
        message: failure.message,
        data: JSON.stringify(failure.data),
        retryable: failure.retryable && isSafe,
        retry_after_ms: isSafe ? (failure.retryAfterMs ?? null) : null,
      },
    };
  }

  /** The one line that has the words of the failure; the line of the call names the turn. */
  function logFailure({ reason, message, data, cause }: RpcError): void {
    const isInternal = reason === 'internal';
    deps.log.log(isInternal ? 'ERROR' : 'WARNING', 'turn failed', {
      turn_id: lease.turn_id,
      session_id: conversation.session_id,
      key_id: conversation.owner,
      reason,
      provider: data.provider,
      model: lease.model,
      status: data.status,
      attempts: data.attempts,
      ...(isInternal
        ? errorFields(cause)
        : { error: message, cause: cause instanceof Error ? cause.message : undefined }),
    });
  }
}

function toOmitted(omitted: Toolset['omitted'] = []) {
  if (omitted.length === 0) return {};
  return {
    omitted_tools: omitted.slice(0, OMITTED_TOOLS_MAX),
    ...(omitted.length > OMITTED_TOOLS_MAX && { omitted_tools_count: omitted.length }),
  };
}

function* inPieces(event: TurnEvent): Generator<TurnEvent> {
  if ('AgentMessageDelta' in event) {
    for (const delta of splitText(event.AgentMessageDelta.delta, EVENT_CHARS_MAX))
      yield { AgentMessageDelta: { delta } };
  } else if ('AgentReasoning' in event) {
    for (const text of splitText(event.AgentReasoning.text, EVENT_CHARS_MAX)) yield { AgentReasoning: { text } };
  } else yield event;
}
