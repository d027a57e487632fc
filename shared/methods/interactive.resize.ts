// `interactive.resize`: sets the size of a terminal.
import { z } from 'zod';
import { defineMethod } from './define-method.ts';
import { Columns, Rows } from './schemas/interactive-schemas.ts';
import { SessionId } from './schemas/schemas.ts';
import { watchUnlessWatched } from './watch-terminal.ts';

export const interactiveResize = defineMethod({
  name: 'interactive.resize',
  summary: 'Changes the size of a terminal; its processes receive SIGWINCH; costs no call',
  scope: 'workspace',
  cost: 'free',
  runs: 'companion',
  needs: 'sandbox',
  params: z.strictObject({ session_id: SessionId, cols: Columns, rows: Rows }),
  result: z.object({ session_id: z.string(), cols: z.int(), rows: z.int() }),
  errors: ['not_found', 'sandbox_unavailable'],
  example: {
    params: { session_id: 'tty-session-456', cols: 120, rows: 40 },
    result: { session_id: 'tty-session-456', cols: 120, rows: 40 },
  },
  async handle({ session_id: sessionId, cols, rows }, context) {
    const { services, caller } = context;
    await services.terminals.resize({ owner: caller.keyId, sessionId }, { cols, rows });
    watchUnlessWatched(context, sessionId);
    return { session_id: sessionId, cols, rows };
  },
});
