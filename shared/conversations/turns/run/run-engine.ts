// Runs the model of a turn, and its fallbacks: a model that fails before its answer has begun, in a way that another
// one may not, is followed by the next. While a fallback is left, events are held back until the answer has begun, so
// that readers receive those of one model only.
import { providerOf } from '../../../config/values/model-id.ts';
import type { Outcome } from '../../../engines/engine.ts';
import { failedPart, mayAnswer } from '../../../engines/fall-back.ts';
import type { ModelCall } from '../../../engines/models/model-health.ts';
import { RpcError, toRpcError } from '../../../errors.ts';
import type { FailedModel, TurnEvent } from '../../../turn-events.ts';
import type { TurnDeps } from '../../deps.ts';
import type { AdmittedTurn, Fallback } from '../turn.ts';
import { checkOutput, type ModelRun, runModel } from './run-model.ts';

/** Longest time until an answer begins, retries included, while a fallback is left. */
const BEGIN_MS = 120_000;
const PASSED_OVER = 'The model has failed repeatedly on this instance and is not called for a while';
/** Calls with a caller's own credential are not counted: their failures may be those of the account. */
const UNCOUNTED: ModelCall = { begun() {}, ended() {} };

type EngineRun = Omit<ModelRun, 'failed' | 'onBegun' | 'context'>;

/** Errors: those of the last model that was called. */
export async function runEngine(deps: TurnDeps, admitted: AdmittedTurn, run: EngineRun): Promise<Outcome> {
  const { clock, log, turns } = deps;
  const { lease, mcpLost } = admitted;
  if (mcpLost) log.warn('MCP servers of the session have ended', { turn_id: lease.turn_id });
  await admitted.prefetched;
  const endsAtMs = clock.monotonic() + turns.timeoutMs;
  const failed: FailedModel[] = [];
  let candidate = admitted;
  for (let fallbacks = admitted.fallbacks; ; ) {
    const tried = await tryModel(deps, candidate, { ...run, failed, fallbacks, endsAtMs });
    if ('outcome' in tried) {
      await checkOutput(candidate, tried.outcome, run.signal);
      return tried.outcome;
    }
    failed.push(tried.failed);
    const { engine, model, prepare } = tried.next;
    candidate = { ...admitted, ...prepare(), engine, lease: { ...lease, model } };
    fallbacks = tried.left;
  }
}

interface Try extends EngineRun {
  readonly failed: readonly FailedModel[];
  /** The models after this one. */
  readonly fallbacks: readonly Fallback[];
  /** The end of the turn, by the monotonic clock. */
  readonly endsAtMs: number;
}

type Tried =
  | { readonly outcome: Outcome }
  /** Another model may answer. */
  | { readonly failed: FailedModel; readonly next: Fallback; readonly left: readonly Fallback[] };

async function tryModel(deps: TurnDeps, candidate: AdmittedTurn, given: Try): Promise<Tried> {
  const { clock, history, log, models } = deps;
  const { fallbacks, endsAtMs, ...run } = given;
  const { model, turn_id } = candidate.lease;
  const [following, ...rest] = fallbacks;
  const hasFallback = following !== undefined;
  // Read before the call of the model begins, because a failure of the store is not counted as one of the model.
  const context = await history.context(candidate.conversation, candidate.budgetTokens, turn_id);
  const call = candidate.credential === undefined ? models.begin(model, { hasFallback }) : UNCOUNTED;
  if (call === undefined && hasFallback)
    return { failed: { model, reason: 'passed_over', message: PASSED_OVER }, next: following, left: rest };
  const withinMs = Math.min(BEGIN_MS, (endsAtMs - clock.monotonic()) / (fallbacks.length + 1));
  const gate = createGate(run, hasFallback ? { model, withinMs } : undefined);
  const { append, signal } = gate;
  const onBegun = (): void => {
    // After the deadline the event is dropped, and the next model is called.
    if (signal.aborted) return;
    gate.open();
    call?.begun();
  };
  try {
    const turn = hasFallback ? { ...candidate, retryWaitMsMax: 0 } : candidate;
    const outcome = await runModel(deps, turn, { ...run, append, signal, onBegun, context });
    gate.open();
    call?.ended('completed');
    return { outcome };
  } catch (thrown) {
    const error = withModel(toRpcError(signal.aborted ? signal.reason : thrown), model);
    const part = failedPart(error);
    call?.ended(part === 'request' || run.signal.aborted ? 'unknown' : 'failed');
    const [next, ...left] = fallbacks.filter((other) => mayAnswer(other.model, model, part));
    if (run.signal.aborted || gate.isOpen || next === undefined) {
      gate.open();
      throw error;
    }
    gate.close();
    const failed = { model, reason: error.reason, message: error.message };
    log.warn('model failed, a fallback is called', { turn_id, ...failed, status: error.data.status, next: next.model });
    return { failed, next, left };
  }
}

/** Every failure of a model names it, also those that an engine raises without its provider. */
function withModel(error: RpcError, model: string): RpcError {
  const { reason, message, data, retryable, retryAfterMs, cause } = error;
  if (reason === 'internal' || reason === 'cancelled') return error;
  const named = { provider: providerOf(model), model, ...data };
  return new RpcError(reason, {
    message,
    data: named,
    retryable,
    cause,
    ...(retryAfterMs !== undefined && { retryAfterMs }),
  });
}

/** The events of one model, which are held back until it is opened. */
interface Gate {
  readonly isOpen: boolean;
  open(): void;
  /** Drops the events. */
  close(): void;
  append(event: TurnEvent): void;
  readonly signal: AbortSignal;
}

/** Without `deadline` it is open. The signal is aborted if it is not opened by then. */
function createGate(
  { append, signal }: Pick<EngineRun, 'append' | 'signal'>,
  deadline: { readonly model: string; readonly withinMs: number } | undefined,
): Gate {
  if (deadline === undefined) return { isOpen: true, open() {}, close() {}, append, signal };
  const held: TurnEvent[] = [];
  const late = new AbortController();
  const timer = setTimeout(() => late.abort(toTimeout(deadline)), deadline.withinMs);
  const gate: Gate & { isOpen: boolean } = {
    isOpen: false,
    open() {
      clearTimeout(timer);
      gate.isOpen = true;
      for (const event of held.splice(0)) append(event);
    },
    close: () => clearTimeout(timer),
    append: (event) => (gate.isOpen ? append(event) : void held.push(event)),
    signal: AbortSignal.any([signal, late.signal]),
  };
  return gate;
}

function toTimeout({ model, withinMs }: { readonly model: string; readonly withinMs: number }): RpcError {
  const message = `${model} did not begin its answer within ${Math.round(withinMs) / 1_000} s`;
  return new RpcError('upstream_timeout', { message, data: { sent: true } });
}
