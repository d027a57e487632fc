// Ends a session, or erases an owner, in the sandbox service: on the newest boot, and on older ones to which this
// process still has a link.
import type { Erased } from '../../sandbox-ports/ports.ts';
import type { LinkKeeper } from '../link/connect/link-keeper.ts';
import { Nothing } from '../messages.ts';
import { call, openLink } from './calls.ts';

/** Rejects with the errors of failures.ts. */
export async function eraseOver(keeper: LinkKeeper, { owner, sessionId, agoMs }: Erased, signal?: AbortSignal) {
  const link = await openLink(keeper, signal);
  const older = keeper.draining.filter(({ connected }) => connected);
  const params = { owner, ...(sessionId !== undefined && { session: sessionId }), ago_ms: Math.round(agoMs) };
  const options = { answer: Nothing, what: 'The erasure', ...(signal && { signal }) };
  await Promise.all([link, ...older].map((each) => call(each, 'sandbox.erase', params, options)));
}
