// `interactive.input`: keystrokes for a terminal.
import { z } from 'zod';
import { defineMethod } from './define-method.ts';
import { SessionId } from './schemas/schemas.ts';
import { watchUnlessWatched } from './watch-terminal.ts';

const DATA_CHARS_MAX = 64 << 10;

export const interactiveInput = defineMethod({
  name: 'interactive.input',
  summary: 'Writes input to a terminal; costs no call',
  scope: 'workspace',
  cost: 'free',
  runs: 'companion',
  needs: 'sandbox',
  params: z.strictObject({
    session_id: SessionId,
    data: z.string().min(1).max(DATA_CHARS_MAX).describe('The typed text; \\r is Enter, \\u0003 is Ctrl-C'),
  }),
  result: z.object({ session_id: z.string(), accepted: z.literal(true) }),
  errors: ['not_found', 'unavailable', 'sandbox_unavailable'],
  example: {
    params: { session_id: 'tty-session-456', data: 'ls -l\r' },
    result: { session_id: 'tty-session-456', accepted: true },
  },
  async handle({ session_id: sessionId, data }, context) {
    const { services, caller } = context;
    await services.terminals.input({ owner: caller.keyId, sessionId }, data);
    watchUnlessWatched(context, sessionId);
    return { session_id: sessionId, accepted: true as const };
  },
});
