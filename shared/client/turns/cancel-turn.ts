// Cancels the turn when the caller aborts. Otherwise the turn continues, because it does not depend on its reader.
import { isObject } from '../../json/json-object.ts';
import { METHODS } from '../../protocol.ts';
import { isTerminal } from '../../turn-events.ts';
import type { TurnEvent } from '../events.ts';
import { sleep, startDeadline } from '../transport/timer.ts';
import type { TurnStreamDeps } from './turn-stream.ts';

/**
 * Attempts to cancel a prompt that the gateway had not received when the caller aborted; the first pause is 200 ms, and
 * doubles.
 */
const ATTEMPTS = 4;
const PAUSE_MS = 100;
const TIMEOUT_MS = 10_000;

/** Passes `events` on; when `signal` aborts, cancels the turn of the session before it throws. */
export async function* cancelWhenAborted(
  events: AsyncGenerator<TurnEvent, unknown, void>,
  { signal, sessionId, call }: { signal: AbortSignal; sessionId: string; call: TurnStreamDeps['call'] },
): AsyncGenerator<TurnEvent, unknown, void> {
  let last: TurnEvent | undefined;
  try {
    for (let step = await events.next(); ; step = await events.next()) {
      if (step.done === true) return step.value;
      last = step.value;
      yield step.value;
    }
  } catch (error) {
    const ended = last !== undefined && isTerminal(last.event);
    // The caller receives its own abort, whether or not the cancel reaches the gateway.
    if (signal.aborted && !ended) await cancelTurn(call, sessionId, last !== undefined).catch(() => {});
    throw error;
  } finally {
    await events.return(undefined);
  }
}

async function cancelTurn(call: TurnStreamDeps['call'], sessionId: string, hasStarted: boolean): Promise<void> {
  const { signal, end } = startDeadline(TIMEOUT_MS, undefined);
  try {
    for (let attempt = 1; ; attempt++) {
      const result = await call({ method: METHODS.cancel, params: { session_id: sessionId }, signal });
      if (hasStarted || (isObject(result) && result.was_running === true) || attempt === ATTEMPTS) return;
      await sleep(PAUSE_MS * 2 ** attempt, signal);
    }
  } finally {
    end();
  }
}
