// The answer of an ended turn: one function for the caller that waited, for a duplicate of an idempotency key and for a
// reader that resumes, so that all of them get the same answer.

import { z } from 'zod';
import { isReason, RpcError } from '../../../errors.ts';
import { findJson } from '../../../json/output-schema.ts';
import type { SettingWarning } from '../../../messages/turn-settings.ts';
import { answerText, type CutReason, type TurnEvent, type Usage } from '../../../turn-events.ts';
import type { EndedTurn } from '../turn.ts';

/** `failure.data` of a turn's document, JSON text. */
const FailureData = z.record(z.string(), z.unknown());

export interface PromptAnswer {
  readonly type: 'ai_response';
  readonly conversation_id: string;
  readonly content: string;
  readonly model: string;
  readonly timestamp: string;
  readonly events: readonly TurnEvent[];
  readonly session_id: string;
  readonly turn_id: string;
  readonly usage: Usage;
  /** Number of the answer in the history; absent in answers of older versions. */
  readonly message_seq?: number;
  /** Present if the model's answer was cut. */
  readonly finish_reason?: CutReason;
  /** Settings that were left out or changed. */
  readonly warnings?: readonly SettingWarning[];
  /** The JSON in `content`, of the schema of the prompt. */
  readonly output?: unknown;
}

/**
 * The answer of a completed turn; throws the error of any other end (`cancelled`, `unavailable` for interrupted, the
 * failure's own).
 */
export function toAnswer(turnId: string, { turn, events, cause }: EndedTurn): PromptAnswer {
  const where = { session_id: turn.session_id, conversation_id: turn.conversation, turn_id: turnId };
  if (turn.status === 'completed') {
    const content = answerText(events);
    return {
      type: 'ai_response',
      conversation_id: turn.conversation,
      content,
      model: turn.model,
      timestamp: turn.ended_at ?? turn.started_at,
      events: events.map(({ event }) => event).filter(isMilestone),
      session_id: turn.session_id,
      turn_id: turnId,
      usage: turn.usage,
      ...(turn.message_seq !== undefined && { message_seq: turn.message_seq }),
      ...finishOf(events.at(-1)?.event, content),
    };
  }
  if (turn.failure !== null) {
    const { reason } = turn.failure;
    throw new RpcError(isReason(reason) ? reason : 'internal', {
      message: turn.failure.message,
      data: { ...FailureData.parse(JSON.parse(turn.failure.data)), ...where },
      retryable: turn.failure.retryable,
      cause,
      ...(turn.failure.retry_after_ms === null ? {} : { retryAfterMs: turn.failure.retry_after_ms }),
    });
  }
  if (turn.status === 'interrupted') {
    throw new RpcError('unavailable', {
      message: 'the instance that ran the turn stopped; the stored part of the answer is in the history',
      data: { ...where, turn_status: turn.status },
      retryAfterMs: 1_000,
    });
  }
  throw new RpcError('cancelled', { data: { ...where, turn_status: turn.status } });
}

function finishOf(
  last: TurnEvent | undefined,
  content: string,
): Pick<PromptAnswer, 'finish_reason' | 'warnings' | 'output'> {
  if (last === undefined || !('TaskComplete' in last)) return {};
  const { finish_reason, warnings, structured } = last.TaskComplete;
  return {
    ...(finish_reason !== undefined && { finish_reason }),
    ...(warnings !== undefined && { warnings }),
    ...(structured === true && findJson(content)),
  };
}

const LEFT_OUT = ['AgentMessageDelta', 'AgentReasoningDelta', 'AgentReasoning', 'TokenCount'] as const;

/** Events that an answer lists: all but the deltas and counters of a stream. */
function isMilestone(event: TurnEvent): boolean {
  return !LEFT_OUT.some((name) => name in event);
}
