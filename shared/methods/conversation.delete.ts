// `conversation.delete`: deletes all data of a session.
import { z } from 'zod';
import { defineMethod } from './define-method.ts';
import { SessionId } from './schemas/schemas.ts';

export const conversationDelete = defineMethod({
  name: 'conversation.delete',
  summary:
    'Deletes a session with its messages, turns and events; cancels a running turn, ends its MCP servers and terminal',
  scope: 'conversation',
  cost: 'work',
  params: z.strictObject({ session_id: SessionId }),
  result: z.union([
    z.object({ deleted: z.literal(true), session_id: z.string() }),
    z.object({ deleted: z.literal(false), status: z.literal('not_found'), session_id: z.string() }),
  ]),
  example: { params: { session_id: 'my-session-123' }, result: { deleted: true, session_id: 'my-session-123' } },
  placeOf: () => 'local',
  async handle({ session_id }, { services, caller, canForward }) {
    const { conversations, erasures, mcp } = services;
    const deleted = await conversations.delete(caller.keyId, session_id, canForward);
    const session = { owner: caller.keyId, sessionId: session_id };
    await Promise.all([mcp.endSession(session), erasures.erase(session)]);
    return deleted
      ? { deleted: true as const, session_id }
      : { deleted: false as const, status: 'not_found' as const, session_id };
  },
});
