// `auth.logout`: deletes the credentials of a login. Running turns keep theirs until they end.
import { z } from 'zod';
import { defineMethod } from './define-method.ts';
import { SessionId } from './schemas/schemas.ts';

export const authLogout = defineMethod({
  name: 'auth.logout',
  summary: 'Deletes the credentials of a login',
  scope: 'auth',
  cost: 'work',
  params: z.strictObject({ session_id: SessionId.describe('`session_id` of auth.login') }),
  result: z.union([
    z.object({ logged_out: z.literal(true), session_id: z.string() }),
    z.object({ logged_out: z.literal(false), status: z.literal('not_found'), session_id: z.string() }),
  ]),
  errors: ['unavailable'],
  example: { params: { session_id: 'session-xyz' }, result: { logged_out: true, session_id: 'session-xyz' } },
  async handle({ session_id }, { services, caller, signal }) {
    const found = await services.logins.logout(caller.keyId, session_id, signal);
    if (found) return { logged_out: true as const, session_id };
    return { logged_out: false as const, status: 'not_found' as const, session_id };
  },
});
