// Verifies the invoker of a service by the OIDC token of the request, which must belong to one of the given service
// accounts. If Cloud Run checks the invoker before it forwards a request, it replaces the signature of the verified
// token, so that the service cannot use the token elsewhere. A token without a signature is accepted only if the
// configuration states that this check is enabled. Otherwise any caller could write such a token, and a service that
// allows all callers would accept it.
import type { IncomingMessage } from 'node:http';
import { z } from 'zod';
import { RpcError } from '../errors.ts';
import { createOidcVerifier, ISSUERS, type OidcOptions, type OidcPolicy, tokenOf } from './oidc.ts';

/** https://cloud.google.com/run/docs/troubleshooting#signature-removed */
const REMOVED = '.SIGNATURE_REMOVED_BY_GOOGLE';
/**
 * Maximum difference between the clock of the instance and that of Google, by which Cloud Run has checked the expiry.
 */
const LEEWAY_SECONDS = 300;

const Claims = z.object({
  iss: z.enum(ISSUERS),
  aud: z.string(),
  exp: z.number(),
  email: z.string(),
  email_verified: z.literal(true),
});

export interface InvokerPolicy extends OidcPolicy {
  /** Whether Cloud Run checks the invoker of this service, and its invokers are service accounts, not `allUsers`. */
  readonly isChecked: boolean;
}

export interface InvokerVerifier {
  /** Resolves if the invoker satisfies the policy. Rejects with the errors of `OidcVerifier.verify`. */
  verify(req: Pick<IncomingMessage, 'headersDistinct'>, options?: { readonly signal?: AbortSignal }): Promise<void>;
}

export function createInvokerVerifier(policy: InvokerPolicy, options: OidcOptions = {}): InvokerVerifier {
  const verifier = createOidcVerifier(policy, options);
  return {
    async verify({ headersDistinct: headers }, call) {
      // If a request has both headers, Cloud Run checks only X-Serverless-Authorization and forwards the other one
      // unchanged.
      const authorization = single(headers['x-serverless-authorization'] ?? headers.authorization);
      if (!policy.isChecked || !authorization?.trimEnd().endsWith(REMOVED)) {
        return verifier.verify(authorization, call);
      }
      const claims = claimsOf(tokenOf(authorization));
      if (claims?.aud !== policy.audience || claims.exp < Date.now() / 1_000 - LEEWAY_SECONDS) {
        throw new RpcError('unauthorized', { message: 'Unauthorized: the token is not valid here' });
      }
      if (!policy.emails.includes(claims.email)) {
        throw new RpcError('unauthorized', { message: 'Unauthorized: the token belongs to another account' });
      }
    },
  };
}

/** If a header occurs twice, it is undefined which of them Cloud Run has checked, so neither is used. */
function single(values: readonly string[] | undefined): string | undefined {
  return values?.length === 1 ? values[0] : undefined;
}

function claimsOf(token: string): z.output<typeof Claims> | undefined {
  try {
    return Claims.safeParse(JSON.parse(Buffer.from(token.split('.')[1] ?? '', 'base64url').toString())).data;
  } catch {
    return undefined;
  }
}
