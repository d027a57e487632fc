// `conversation.cancel`: stops the running turn of a session, wherever it runs. Idempotent.
import { z } from 'zod';
import { defineMethod } from './define-method.ts';
import { SessionId } from './schemas/schemas.ts';

export const conversationCancel = defineMethod({
  name: 'conversation.cancel',
  summary: 'Cancels the running turn of a session on any instance; the session stays usable',
  scope: 'conversation',
  cost: 'work',
  params: z.strictObject({ session_id: SessionId }),
  result: z.union([
    z.object({
      cancelled: z.literal(true),
      session_id: z.string(),
      conversation_id: z.string(),
      was_running: z.boolean().describe('Whether there was a turn to cancel'),
    }),
    z.object({ cancelled: z.literal(false), status: z.literal('not_found'), session_id: z.string() }),
  ]),
  example: {
    params: { session_id: 'my-session-123' },
    result: { cancelled: true, session_id: 'my-session-123', conversation_id: 'conv_abc123', was_running: true },
  },
  async handle({ session_id }, { services, caller }) {
    const outcome = await services.conversations.cancel(caller.keyId, session_id);
    if (outcome.kind === 'not_found') return { cancelled: false as const, status: 'not_found' as const, session_id };
    return {
      cancelled: true as const,
      session_id,
      conversation_id: outcome.conversationId,
      was_running: outcome.wasRunning,
    };
  },
});
