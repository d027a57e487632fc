// ID tokens of this service's own account, from Google's metadata server or credentials; the library caches one until
// it expires.

import { deadline, orAbort } from '../async.ts';
import { RpcError } from '../errors.ts';

const TIMEOUT_MS = 5_000;
/** The library replaces a token minutes before it expires; a call of the library takes 0.1 ms. */
const CACHED_MS = 60_000;

/**
 * Returns `Bearer <token>` for `audience`; `service` names it in errors. Throws RpcError `unavailable` when no token is
 * available.
 */
export function createIdTokens(audience: string, service: string): (signal: AbortSignal) => Promise<string> {
  let opened: ReturnType<typeof open> | undefined;
  let cached: { readonly authorization: string; readonly atMs: number } | undefined;
  return async (signal) => {
    const nowMs = Date.now();
    if (cached !== undefined && Math.abs(nowMs - cached.atMs) < CACHED_MS) return cached.authorization;
    try {
      opened ??= open(audience);
      const work = opened.then((client) => client.getRequestHeaders());
      const authorization = (await orAbort(work, deadline(TIMEOUT_MS, signal))).get('authorization');
      if (authorization === null) throw new Error('the library returned no token');
      cached = { authorization, atMs: nowMs };
      return authorization;
    } catch (error) {
      opened = undefined;
      throw new RpcError('unavailable', {
        message: `no ID token for calls to the ${service} service: does this service have a service account?`,
        retryAfterMs: 1_000,
        cause: error,
      });
    }
  };
}

/** Imported at the first call. */
async function open(audience: string) {
  const { GoogleAuth } = await import('google-auth-library');
  return new GoogleAuth().getIdTokenClient(audience);
}
