// `interactive.close`: ends a terminal and all its processes.
import { z } from 'zod';
import { defineMethod } from './define-method.ts';
import { SessionId } from './schemas/schemas.ts';

export const interactiveClose = defineMethod({
  name: 'interactive.close',
  summary: 'Ends a terminal and all its processes',
  scope: 'workspace',
  cost: 'work',
  runs: 'companion',
  needs: 'sandbox',
  params: z.strictObject({ session_id: SessionId }),
  result: z.object({ session_id: z.string(), closed: z.literal(true) }),
  errors: ['not_found', 'sandbox_unavailable'],
  example: { params: { session_id: 'tty-session-456' }, result: { session_id: 'tty-session-456', closed: true } },
  async handle({ session_id: sessionId }, { services, caller }) {
    await services.terminals.close({ owner: caller.keyId, sessionId });
    return { session_id: sessionId, closed: true as const };
  },
});
