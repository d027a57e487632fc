// `conversation.update`: sets the title, the metadata and the retention of a session.
import { z } from 'zod';
import { RpcError } from '../errors.ts';
import { isBlank } from '../messages/text.ts';
import { defineMethod } from './define-method.ts';
import { SessionId } from './schemas/schemas.ts';
import { Metadata, SESSION_EXAMPLE, SessionResult, toSession } from './schemas/session-schemas.ts';

const RETENTION_DAYS_MAX = 3_650;

export const conversationUpdate = defineMethod({
  name: 'conversation.update',
  summary: 'Sets the title, the metadata and the retention of a session, and returns the session',
  scope: 'conversation',
  cost: 'work',
  params: z.strictObject({
    session_id: SessionId,
    title: z
      .string()
      .min(1)
      .max(200)
      .refine((title) => title === '' || !isBlank(title), 'must contain more than white space')
      .nullable()
      .optional()
      .describe('null: the start of the first prompt again'),
    metadata: Metadata.nullable()
      .optional()
      .describe('Replaces all metadata of the session: at most 16 strings by name; null removes it'),
    retention_days: z
      .int()
      .min(1)
      .max(RETENTION_DAYS_MAX)
      .nullable()
      .optional()
      .describe('Days after its last use for which the session is kept; null: as the deployment is configured'),
  }),
  result: SessionResult,
  errors: ['not_found'],
  example: {
    params: { session_id: 'my-session-123', title: 'Adding numbers', metadata: { user: 'u-17' } },
    result: { ...SESSION_EXAMPLE, title: 'Adding numbers', metadata: { user: 'u-17' } },
  },
  async handle({ session_id, title, metadata, retention_days }, { services, caller }) {
    const changes = { title, metadata, retentionDays: retention_days };
    const updated = await services.conversations.update(caller.keyId, session_id, changes);
    if (updated === undefined) throw new RpcError('not_found', { message: 'no such session', data: { session_id } });
    return toSession(updated);
  },
});
