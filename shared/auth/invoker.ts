// Who invoked a service: the OIDC token of the request, of one of these service accounts. Where Cloud Run checks the
// invoker before it forwards a request, it replaces the signature of the token that it has verified, so that no service
// can use it elsewhere. Such a token is accepted only where the configuration states that this check is on: anyone
// could write one, and a service that everybody may invoke would accept it.
import type { IncomingMessage } from 'node:http';
import { z } from 'zod';
import { RpcError } from '../errors.ts';
import { createOidcVerifier, ISSUERS, type OidcOptions, type OidcPolicy, tokenOf } from './oidc.ts';

/** https://cloud.google.com/run/docs/troubleshooting#signature-removed */
const REMOVED = '.SIGNATURE_REMOVED_BY_GOOGLE';
/** Cloud Run has checked the expiry by Google's clock; this is the difference to the clock of the instance. */
const LEEWAY_SECONDS = 300;

const Claims = z.object({
  iss: z.enum(ISSUERS),
  aud: z.string(),
  exp: z.number(),
  email: z.string(),
  email_verified: z.literal(true),
});

export interface InvokerPolicy extends OidcPolicy {
  /** Cloud Run checks the invoker of this service, and the invokers are service accounts, not `allUsers`. */
  readonly isChecked: boolean;
}

export interface InvokerVerifier {
  /** Resolves for an invoker that satisfies the policy. Rejects as `OidcVerifier.verify` does. */
  verify(req: Pick<IncomingMessage, 'headersDistinct'>, options?: { readonly signal?: AbortSignal }): Promise<void>;
}

export function createInvokerVerifier(policy: InvokerPolicy, options: OidcOptions = {}): InvokerVerifier {
  const verifier = createOidcVerifier(policy, options);
  return {
    async verify({ headersDistinct: headers }, call) {
      // Of two headers, Cloud Run checks the first and forwards the second as the invoker wrote it.
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

/** With two lines of one header it is not defined which of them Cloud Run has checked. */
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
