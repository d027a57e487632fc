// `conversation.fork`: copies the messages of a session to a new session.
import { z } from 'zod';
import { defineMethod } from './define-method.ts';
import { SessionId } from './schemas/schemas.ts';
import { SESSION_EXAMPLE, SessionResult, toSession } from './schemas/session-schemas.ts';

export const conversationFork = defineMethod({
  name: 'conversation.fork',
  summary: 'Copies the messages of a session, up to a number, to a new session with the same title and metadata',
  scope: 'conversation',
  cost: 'work',
  isBulky: true,
  params: z.strictObject({
    session_id: SessionId,
    to_seq: z.int().min(0).optional().describe('Number of the last message that is copied; default: all messages'),
    new_session_id: SessionId.optional().describe('Name of the new session, not used yet; default: a new name'),
  }),
  result: SessionResult,
  errors: ['not_found', 'conflict', 'storage_full', 'unavailable'],
  example: {
    params: { session_id: 'my-session-123', to_seq: 2, new_session_id: 'my-session-124' },
    result: {
      ...SESSION_EXAMPLE,
      session_id: 'my-session-124',
      conversation_id: 'conv_abc124',
      usage: { input_tokens: 0, output_tokens: 0, total_tokens: 0 },
    },
  },
  async handle({ session_id, to_seq, new_session_id }, { services, caller, signal }) {
    const newSessionId = new_session_id ?? services.ids.next('sess');
    const params = { owner: caller.keyId, sessionId: session_id, toSeq: to_seq, newSessionId };
    return toSession(await services.conversations.fork(params, signal));
  },
});
