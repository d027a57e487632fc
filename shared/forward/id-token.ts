// ID tokens of this service's own account, from Google's metadata server or credentials; the library caches one until
// it expires.

import { deadline, orAbort } from '../async.ts';
import { RpcError } from '../errors.ts';

const TIMEOUT_MS = 5_000;

/**
 * Returns a function that resolves with `Bearer <token>` for `audience`. It throws RpcError `unavailable` when no token
 * can be obtained.
 */
export function createIdTokens(audience: string): (signal: AbortSignal) => Promise<string> {
  let opened: ReturnType<typeof open> | undefined;
  return async (signal) => {
    try {
      opened ??= open(audience);
      const work = opened.then((client) => client.getRequestHeaders());
      const authorization = (await orAbort(work, deadline(TIMEOUT_MS, signal))).get('authorization');
      if (authorization === null) throw new Error('the library gave no token');
      return authorization;
    } catch (error) {
      opened = undefined;
      throw new RpcError('unavailable', {
        message: 'no identity for calls to the companion service',
        retryAfterMs: 1_000,
        cause: error,
      });
    }
  };
}

/** Imported at the first forwarded call. */
async function open(audience: string) {
  const { GoogleAuth } = await import('google-auth-library');
  return new GoogleAuth().getIdTokenClient(audience);
}
