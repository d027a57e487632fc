// Runs one admitted turn on this instance: the engine's events go to the log and to the store, the lease is renewed,
// and one commit ends the turn. It continues when its client disconnects; a stop request, the deadline and the loss of
// the lease end it.
import type { Outcome } from '../../engines/engine.ts';
import { RpcError, toRpcError } from '../../errors.ts';
import type { MessagePart } from '../../message-parts.ts';
import { readOutput } from '../../output-schema.ts';
import type { Span } from '../../timings.ts';
import type { AbortReason, TurnEvent } from '../../turn-events.ts';
import { estimateUsage } from '../../usage.ts';
import type { TurnDeps } from '../deps.ts';
import type { ContextBudget } from '../records/documents.ts';
import { createEventLog } from '../records/event-log.ts';
import { createEventFlusher } from './event-flusher.ts';
import { keepLease } from './lease-keeper.ts';
import { settleTurn } from './settle-turn.ts';
import type { AdmittedTurn, EndedTurn, RunningTurn } from './turn.ts';
import { logFailure, toFailure } from './turn-failure.ts';
import { splitEvent, toTaskStarted, toTurnInput } from './turn-input.ts';
import { createTurnRecord, type TurnEnd } from './turn-record.ts';
import { traceTurn } from './turn-spans.ts';

/** Another instance has taken the lease and ended the turn. */
class LeaseLost extends Error {}

/** The events and the answer that the engine has yielded so far. */
interface Progress {
  text: string;
  readonly parts: MessagePart[];
  contextTokens: number;
  /** The budget for the model, if the provider has refused the conversation as too long. */
  budget: ContextBudget | undefined;
}

export function startTurn(deps: TurnDeps, admitted: AdmittedTurn): RunningTurn {
  const { clock, turns } = deps;
  const { ref, lease, conversation } = admitted;
  const log = createEventLog();
  const record = createTurnRecord({ conversation, lease });
  const controller = new AbortController();
  const { signal } = controller;
  const spans = [...admitted.spans];
  const progress: Progress = { text: '', parts: [], contextTokens: 0, budget: undefined };
  let stopped: AbortReason | undefined;

  const stop = (reason: AbortReason): void => {
    stopped ??= reason;
    controller.abort(new RpcError('cancelled', { data: { reason: stopped } }));
  };
  const lost = (): void => controller.abort(new LeaseLost('the lease of the turn is lost'));
  const flusher = createEventFlusher(deps, log, record, lost);
  const keeper = keepLease(deps, ref, lease, { stop, lost });
  const deadline = setTimeout(() => controller.abort(turnTimeout(turns.timeoutMs)), turns.timeoutMs);
  const append = (event: TurnEvent): void => {
    log.append(event);
    flusher.touch();
  };

  const run = async (): Promise<EndedTurn> => {
    let end: TurnEnd;
    let cause: unknown;
    try {
      const { usage, finishReason, warnings } = await runEngine(deps, admitted, { progress, append, signal, spans });
      const structured = admitted.outputSchema !== undefined;
      end = { status: 'completed', usage, nowMs: clock.now(), failure: null, finishReason, warnings, structured };
    } catch (error) {
      const thrown = signal.aborted ? signal.reason : error;
      end = toEnd(deps, admitted, { progress, stopped, cause: thrown });
      cause = toRpcError(thrown).cause;
    }
    keeper.unwatch();
    const { text, parts, budget } = progress;
    const settle = () => settleTurn(deps, { admitted, log, record, flusher, text, parts, end, budget });
    return { ...(await timed(spans, 'settle', settle)), cause };
  };

  const done = run().finally(() => {
    clearTimeout(deadline);
    keeper.release();
    log.close();
  });
  // The failure is already logged; a caller that waits handles the rejection.
  done.catch(() => {});
  return { turnId: lease.turn_id, sessionId: conversation.session_id, log, done, spans, stop };
}

interface EngineRun {
  readonly progress: Progress;
  readonly append: (event: TurnEvent) => void;
  readonly signal: AbortSignal;
  readonly spans: Span[];
}

async function runEngine(
  { clock, history, log, tracer }: TurnDeps,
  admitted: AdmittedTurn,
  { progress, append, signal, spans }: EngineRun,
): Promise<Outcome> {
  const { conversation, lease, engine, mcpLost } = admitted;
  await admitted.prefetched;
  const context = await history.context(conversation, admitted.budgetTokens, lease.turn_id);
  progress.contextTokens = context.tokens;
  if (mcpLost) log.warn('MCP servers of the session have ended', { turn_id: lease.turn_id });
  append(toTaskStarted(admitted, context));
  signal.throwIfAborted();
  const traced =
    tracer &&
    traceTurn(tracer, { model: lease.model, conversationId: conversation.conversation_id }, () => clock.now());
  return timed(spans, 'model', async () => {
    const record = (part: MessagePart): void => void progress.parts.push(part);
    const generator = engine.run(toTurnInput(admitted, context), { signal, record });
    for (;;) {
      const step = await generator.next().catch((error: unknown) => {
        traced?.failed(toRpcError(signal.aborted ? signal.reason : error).reason);
        throw error;
      });
      if (step.done) {
        traced?.completed(step.value);
        checkOutput(admitted, step.value);
        return step.value;
      }
      traced?.event(step.value);
      for (const event of splitEvent(step.value)) append(event);
      if ('AgentMessageDelta' in step.value) progress.text += step.value.AgentMessageDelta.delta;
      if ('ContextTrimmed' in step.value) {
        progress.budget = { model: lease.model, tokens: step.value.ContextTrimmed.budget_tokens };
      }
    }
  });
}

/** Throws `upstream_error` with the issues if the answer is not JSON of the caller's schema. */
function checkOutput({ outputSchema, lease }: AdmittedTurn, { content, finishReason }: Outcome): void {
  if (outputSchema === undefined) return;
  const read = readOutput(outputSchema, content);
  if ('output' in read) return;
  const cut = finishReason === undefined || finishReason === 'stop' ? '' : `, which was cut (${finishReason}),`;
  throw new RpcError('upstream_error', {
    message: `The answer${cut} does not match output_schema`,
    data: { model: lease.model, detail: 'output_schema', issues: read.issues },
    retryable: true,
  });
}

/** The end of a turn that did not complete. `cause`: the reason of the abort, or the error of the engine. */
function toEnd(
  { clock, log }: TurnDeps,
  admitted: AdmittedTurn,
  given: { readonly progress: Progress; readonly stopped: AbortReason | undefined; readonly cause: unknown },
): TurnEnd {
  const { progress, stopped, cause } = given;
  const ended = { usage: estimateUsage(progress.contextTokens, progress.text), nowMs: clock.now() };
  if (stopped !== undefined) {
    const status = stopped === 'interrupted' ? 'interrupted' : 'cancelled';
    return { ...ended, status, failure: null, reason: stopped };
  }
  // The new owner of the lease stores the end of the turn; without one, this end is stored.
  if (cause instanceof LeaseLost) return { ...ended, status: 'interrupted', failure: null };
  const failure = toRpcError(cause);
  logFailure(log, failure, admitted);
  return { ...ended, status: 'failed', failure: toFailure(failure, admitted) };
}

async function timed<R>(spans: Span[], phase: Span['phase'], work: () => Promise<R>): Promise<R> {
  const startMs = performance.now();
  try {
    return await work();
  } finally {
    spans.push({ phase, startMs, endMs: performance.now() });
  }
}

function turnTimeout(timeoutMs: number): RpcError {
  const message = `The turn did not end within ${timeoutMs / 1_000} s`;
  return new RpcError('upstream_timeout', { message, data: { timeout_ms: timeoutMs, sent: true } });
}
