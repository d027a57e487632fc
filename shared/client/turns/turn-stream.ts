// The stream of a turn: each event exactly once and in order, over several connections if needed, then the answer. A
// lost connection ends neither the stream nor the turn.
import { isObject } from '../../json/json-object.ts';
import { METHODS } from '../../protocol.ts';
import { isTerminal } from '../../turn-events.ts';
import { type TurnEvent, toTurnEvent } from '../events.ts';
import { fromTurnEnd, GatewayError } from '../gateway-error.ts';
import type { Call, OpenStream } from '../transport/http.ts';
import type { Timer } from '../transport/timer.ts';
import { mayRetry, waitToRetry } from './retry.ts';

/** To be iterated once. `for await (const { event } of turn) ...; const answer = await turn.answer();` */
export interface TurnStream<Answer> extends AsyncIterableIterator<TurnEvent, undefined> {
  /** Yields the text of the answer only, piece by piece. */
  text(): AsyncGenerator<string, void, void>;
  /**
   * Reads the remaining events and resolves with the answer; throws the GatewayError that ended the turn or the stream.
   */
  answer(): Promise<Answer>;
}

export interface TurnStreamDeps {
  readonly open: OpenStream;
  /** One call, with retries of its own. */
  readonly call: (call: Call) => Promise<unknown>;
  readonly deadline: Timer;
  /** Most consecutive attempts without a new event. */
  readonly retries: number;
  /** Whether an attempt follows this failure. Default: every failure after which the same request may succeed. */
  readonly mayFollow?: (error: unknown) => error is GatewayError;
}

/**
 * A turn to start (`prompt`, whose params must contain `session_id` and `idempotency_key`), or to follow (`resume`).
 */
export interface TurnRequest {
  readonly method: typeof METHODS.prompt | typeof METHODS.resume;
  readonly params: { readonly session_id?: string | undefined; readonly after_seq?: number | undefined };
}

/** Yields the events and returns the result of `request`; reconnects after a lost connection. */
export async function* followTurn(
  { open, call, deadline, retries, mayFollow = isRetryable }: TurnStreamDeps,
  request: TurnRequest,
): AsyncGenerator<TurnEvent, unknown, void> {
  const { signal } = deadline;
  const { session_id: sessionId, after_seq: afterSeq = 0 } = request.params;
  // Of a prompt it is the number of a message.
  const fromSeq = request.method === METHODS.resume ? afterSeq : 0;
  let last: TurnEvent | undefined;
  for (let attempt = 0; ; attempt++) {
    const before = last;
    const sent: TurnRequest = last === undefined ? request : resumeAfter(last);
    const messages = open({ method: sent.method, params: sent.params, signal });
    try {
      for (let step = await messages.next(); ; step = await messages.next()) {
        if (step.done === true) {
          if (sent === request || request.method === METHODS.resume) return step.value;
          const status = isObject(step.value) ? step.value.status : undefined;
          if (last !== undefined && status !== 'completed' && status !== 'cancelled') {
            throw fromTurnEnd(String(status), last);
          }
          // Repeats the prompt with its idempotency key, which returns its answer.
          return await call({ method: request.method, params: request.params, signal });
        }
        const event = toTurnEvent(step.value);
        // A shared connection also receives the events of other turns.
        if (event === undefined || (sessionId !== undefined && event.session_id !== sessionId)) continue;
        if (last !== undefined && event.turn_id !== last.turn_id) continue;
        if (event.seq <= (last?.seq ?? fromSeq)) continue;
        last = event;
        yield event;
      }
    } catch (error) {
      // A turn that has ended is not requested again.
      const ended = last !== undefined && isTerminal(last.event) && !isBroken(error);
      if (last !== before) attempt = 0;
      if (ended || attempt >= retries || !mayFollow(error)) throw error;
      await waitToRetry(error, attempt, deadline);
    } finally {
      await messages.return(undefined);
    }
  }
}

function resumeAfter({ session_id, turn_id, seq }: TurnEvent) {
  return { method: METHODS.resume, params: { session_id, turn_id, after_seq: seq } } as const;
}

function isRetryable(error: unknown): error is GatewayError {
  return mayRetry(error, true);
}

function isBroken(error: unknown): boolean {
  return error instanceof GatewayError && error.reason === 'network';
}

/** Gives the generator of a turn the shape of a TurnStream. */
export function toTurnStream<Answer>(events: AsyncGenerator<TurnEvent, Answer, void>): TurnStream<Answer> {
  let outcome: { readonly answer: Answer } | { readonly error: unknown } | undefined;
  const stream: TurnStream<Answer> = {
    async next() {
      if (outcome !== undefined) return { done: true, value: undefined };
      try {
        const step = await events.next();
        if (step.done !== true) return step;
        outcome = { answer: step.value };
        return { done: true, value: undefined };
      } catch (error) {
        outcome = { error };
        throw error;
      }
    },
    async return() {
      outcome ??= { error: new GatewayError({ reason: 'cancelled', message: 'the reader has closed the stream' }) };
      // Its result is not used.
      await events.throw(new Left()).catch(() => {});
      return { done: true, value: undefined };
    },
    [Symbol.asyncIterator]: () => stream,
    async *text() {
      for await (const { event } of stream) {
        if (event.AgentMessageDelta !== undefined) yield event.AgentMessageDelta.delta;
      }
    },
    async answer() {
      while (outcome === undefined) await stream.next();
      if ('error' in outcome) throw outcome.error;
      return outcome.answer;
    },
  };
  return stream;
}

/** Ends a generator from outside. */
class Left extends Error {}
