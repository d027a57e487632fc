// Runs one admitted turn on this instance: the engine's events go to the log and to the store, the lease is renewed,
// and one commit ends the turn. It continues when its client disconnects; a stop request, the deadline and the loss of
// the lease end it.
import { providerOf } from '../../../config/values/model-id.ts';
import { RpcError, toRpcError } from '../../../errors.ts';
import type { AbortReason, TurnEvent, Usage } from '../../../turn-events.ts';
import { usageOfEvents } from '../../../usage.ts';
import type { TurnDeps } from '../../deps.ts';
import { createEventLog } from '../../records/event-log.ts';
import type { AdmittedTurn, EndedTurn, RunningTurn } from '../turn.ts';
import { createTurnRecord, type TurnEnd } from '../turn-record.ts';
import { createEventFlusher } from './event-flusher.ts';
import { keepLease } from './lease-keeper.ts';
import { runEngine } from './run-engine.ts';
import { createProgress, type Progress } from './run-model.ts';
import { settleTurn } from './settle-turn.ts';
import { timed } from './timed.ts';
import { logFailure, toFailure } from './turn-failure.ts';

/** Another instance has taken the lease and ended the turn. */
class LeaseLost extends Error {}

export function startTurn(deps: TurnDeps, admitted: AdmittedTurn): RunningTurn {
  const { clock, turns } = deps;
  const { ref, lease, conversation } = admitted;
  const log = createEventLog();
  const record = createTurnRecord({ conversation, lease });
  const controller = new AbortController();
  const { signal } = controller;
  const spans = [...admitted.spans];
  const progress = createProgress(admitted);
  let stopped: AbortReason | undefined;

  const stop = (reason: AbortReason): void => {
    stopped ??= reason;
    controller.abort(new RpcError('cancelled', { data: { reason: stopped } }));
  };
  const lost = (): void => controller.abort(new LeaseLost('the lease of the turn is lost'));
  const flusher = createEventFlusher(deps, log, record, lost);
  const keeper = keepLease(deps, ref, lease, { stop, lost, followed: flusher.followed });
  const abort = (): void => controller.abort(turnTimeout(turns.timeoutMs, progress));
  const deadline = setTimeout(abort, turns.timeoutMs);
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
      const usage = usageOfEvents(log.events);
      end = toEnd(deps, admitted, { model: progress.model, usage, stopped, cause: thrown });
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
  const { owner, session_id: sessionId } = conversation;
  return { turnId: lease.turn_id, owner, sessionId, log, done, spans, stop };
}

/** The end of a turn that did not complete. `cause`: the reason of the abort, or the error of the engine. */
function toEnd(
  { clock, log }: TurnDeps,
  admitted: AdmittedTurn,
  given: {
    readonly model: string;
    readonly usage: Usage;
    readonly stopped: AbortReason | undefined;
    readonly cause: unknown;
  },
): TurnEnd {
  const { model, usage, stopped, cause } = given;
  const ended = { usage, nowMs: clock.now() };
  if (stopped !== undefined) {
    const status = stopped === 'interrupted' ? 'interrupted' : 'cancelled';
    return { ...ended, status, failure: null, reason: stopped };
  }
  // The new owner of the lease stores the end of the turn; without one, this end is stored.
  if (cause instanceof LeaseLost) return { ...ended, status: 'interrupted', failure: null };
  const failure = toRpcError(cause);
  logFailure(log, failure, admitted, model);
  return { ...ended, status: 'failed', failure: toFailure(failure, admitted) };
}

function turnTimeout(timeoutMs: number, { model }: Progress): RpcError {
  const message = `The turn did not end within ${timeoutMs / 1_000} s`;
  const data = { provider: providerOf(model), model, timeout_ms: timeoutMs, sent: true };
  return new RpcError('upstream_timeout', { message, data });
}
