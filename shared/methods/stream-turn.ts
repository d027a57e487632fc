// Shows a turn to the caller while it runs: `conversation.event` notifications (contract section 4), each after the caller has taken the
// one before, so that a slow reader slows only itself.
import type { TurnHandle } from '../conversations/conversations.ts';
import type { EndedTurn } from '../conversations/turn-runner.ts';
import type { MethodContext } from './define-method.ts';

/** Resolves with the turn's end once every event after `afterSeq` has been sent, or the reader has gone. */
export async function streamTurn(turn: TurnHandle, afterSeq: number, context: MethodContext): Promise<EndedTurn> {
  if (context.transport === 'http') return metered(turn, context);
  for await (const { seq, event } of turn.read(afterSeq, context.signal)) {
    const params = {
      session_id: turn.sessionId,
      conversation_id: turn.conversationId,
      turn_id: turn.turnId,
      seq,
      event,
    };
    await context.notify('conversation.event', params, `${turn.turnId}:${seq}`);
  }
  return metered(turn, context);
}

/** The turn's end, with its time told to the meter of the request. */
async function metered({ done, spans }: TurnHandle, { meter }: MethodContext): Promise<EndedTurn> {
  try {
    return await done;
  } finally {
    for (const span of spans) meter.add(span);
  }
}
