// The headers by which the gateway authenticates at the sandbox service. They are created for each connection, because
// an ID token expires after an hour.
import type { SandboxAddress } from '../../config/config.ts';

export type LinkHeaders = (signal: AbortSignal) => Promise<Readonly<Record<string, string>>>;

/** The returned function rejects with RpcError `unavailable` if it cannot get an ID token. */
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
    // Cloud Run's invoker check uses the second header, if it is enabled, and leaves the first one unchanged.
    return { Authorization: authorization, 'X-Serverless-Authorization': authorization };
  };
}
