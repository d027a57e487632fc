// Authenticates callers of the sandbox service by the headers of the upgrade request alone: by a shared secret, or by a
// Google ID token whose signature is verified here.
import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { createOidcVerifier, type OidcOptions } from '../auth/oidc.ts';
import type { SandboxAdmission } from '../config/sandbox-service.ts';
import { RpcError } from '../errors.ts';

/**
 * Resolves if the caller may connect. Rejects with RpcError `unauthorized`, or `unavailable` if Google's certificates
 * cannot be loaded.
 */
export type CheckCaller = (headers: IncomingHttpHeaders, options?: { readonly signal?: AbortSignal }) => Promise<void>;

const BEARER = /^bearer +([\x21-\x7e]+) *$/i;
/**
 * A JSON Web Token with a signature. Cloud Run's invoker check replaces a signature that it has verified by a
 * placeholder.
 */
const SIGNED = /^bearer +[\w-]+\.[\w-]+\.(?!SIGNATURE_REMOVED)[\w-]+ *$/i;
/** The header for the invoker check, in which a caller may send a second token besides `Authorization`. */
const SECOND = 'x-serverless-authorization';

export function createCallerCheck(admission: SandboxAdmission, options: OidcOptions = {}): CheckCaller {
  if ('token' in admission) {
    const expected = digestOf(admission.token);
    return async ({ authorization }) => {
      const given = BEARER.exec(authorization ?? '')?.[1];
      // Digests are compared, because they have the same length: the comparison takes the same time for every wrong
      // token.
      if (given === undefined || !timingSafeEqual(digestOf(given), expected)) {
        throw new RpcError('unauthorized', { message: 'Unauthorized: the token is not valid for this service' });
      }
    };
  }
  const verifier = createOidcVerifier({ audience: admission.audience, emails: admission.callers }, options);
  return (headers, call) => verifier.verify(signedOf(headers), call);
}

function signedOf(headers: IncomingHttpHeaders): string | undefined {
  const { authorization } = headers;
  const second = headers[SECOND];
  return SIGNED.test(authorization ?? '') || typeof second !== 'string' ? authorization : second;
}

function digestOf(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
