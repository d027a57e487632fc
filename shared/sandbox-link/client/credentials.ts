// The headers with which the gateway proves its identity to the sandbox service, made for each connection: an ID token
// expires after an hour.
import type { SandboxAddress } from '../../config/config.ts';

export type LinkHeaders = (signal: AbortSignal) => Promise<Readonly<Record<string, string>>>;

/** Rejects with RpcError `unavailable` when no ID token can be had. */
export function createLinkHeaders(address: SandboxAddress): LinkHeaders {
  if ('token' in address) {
    const headers = { Authorization: `Bearer ${address.token}` };
    return async () => headers;
  }
  const { audience } = address;
  let idTokens: Promise<(signal: AbortSignal) => Promise<string>> | undefined;
  return async (signal) => {
    idTokens ??= import('../../auth/id-token.ts').then(({ createIdTokens }) => createIdTokens(audience, 'sandbox'));
    const authorization = await (await idTokens)(signal);
    // Where Cloud Run checks the caller as well, it takes the second header and leaves the first as it is.
    return { Authorization: authorization, 'X-Serverless-Authorization': authorization };
  };
}
