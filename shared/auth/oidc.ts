// Verifies Google's OIDC tokens (Pub/Sub push, Cloud Scheduler, services of this project that call each other): signed
// by Google, for this audience, of one of these service accounts.

import { LRUCache } from 'lru-cache';
import { deadline, orAbort } from '../async.ts';
import { RpcError } from '../errors.ts';

const TIMEOUT_MS = 5_000;
/** Most milliseconds for which a client and its cached certificates are used. */
const CLIENT_MS_MAX = 3_600_000;
/** A verified token is not verified again for this long (0.3 ms each); callers send the same one for minutes. */
const VERIFIED_MS = 60_000;
const VERIFIED_MAX = 256;
const TOKEN_CHARS_MAX = 8_192;
const BEARER = /^bearer +([\w-]+\.[\w-]+\.[\w-]+) *$/i;
export const ISSUERS = ['https://accounts.google.com', 'accounts.google.com'] as const;

/** The accepted audience and service account. */
export interface OidcPolicy {
  readonly audience: string;
  /** E-mail addresses of the service accounts. */
  readonly emails: readonly string[];
}

export interface OidcVerifier {
  /**
   * Resolves when `authorization` is a Bearer token that satisfies the policy. Rejects with RpcError `unauthorized`, or
   * `unavailable` when Google's certificates cannot be loaded before the deadline.
   */
  verify(authorization: string | undefined, options?: { readonly signal?: AbortSignal }): Promise<void>;
  /** Loads the library and the certificates, for which the first token would wait. Never rejects. */
  warm(): Promise<void>;
}

export interface OidcOptions {
  /** URL of the signers' certificates; default: Google's. */
  readonly certificatesUrl?: string;
}

/** Imports the library at the first token, because most instances of the webhook function receive none. */
export function createOidcVerifier(policy: OidcPolicy, options: OidcOptions = {}): OidcVerifier {
  let opened: ReturnType<typeof openClient> | undefined;
  let openedAtMs = 0;
  const open = async (signal?: AbortSignal) => {
    // The library caches certificates until a time of the wall clock, which may step back.
    if (opened === undefined || performance.now() - openedAtMs > CLIENT_MS_MAX) {
      opened = openClient(options);
      openedAtMs = performance.now();
    }
    const client = await opened;
    const { certs } = await certificates(client, deadline(TIMEOUT_MS, signal));
    return { client, certs };
  };
  const verified = new LRUCache<string, { readonly atMs: number; readonly expiresAtMs: number }>({ max: VERIFIED_MAX });
  const isVerified = (token: string, nowMs: number): boolean => {
    const known = verified.get(token);
    return known !== undefined && nowMs < known.expiresAtMs && Math.abs(nowMs - known.atMs) < VERIFIED_MS;
  };
  return {
    async verify(authorization, { signal } = {}) {
      const token = tokenOf(authorization);
      if (isVerified(token, Date.now())) return;
      const { client, certs } = await open(signal);
      let payload: { email?: string; email_verified?: boolean; exp: number } | undefined;
      try {
        payload = (
          await client.verifySignedJwtWithCertsAsync(token, certs, policy.audience, [...ISSUERS])
        ).getPayload();
      } catch (error) {
        // The library's message quotes the content of the token, so the caller gets a fixed text.
        throw new RpcError('unauthorized', { message: 'Unauthorized: the token is not valid here', cause: error });
      }
      const { email, email_verified: isOwned, exp = 0 } = payload ?? {};
      if (isOwned !== true || email === undefined || !policy.emails.includes(email)) {
        throw new RpcError('unauthorized', { message: 'Unauthorized: the token belongs to another account' });
      }
      verified.set(token, { atMs: Date.now(), expiresAtMs: exp * 1_000 });
    },
    async warm() {
      await open().catch(() => {});
    },
  };
}

async function openClient({ certificatesUrl }: OidcOptions) {
  const { OAuth2Client } = await import('google-auth-library');
  return new OAuth2Client({
    transporterOptions: { timeout: TIMEOUT_MS },
    ...(certificatesUrl === undefined ? {} : { endpoints: { oauth2FederatedSignonPemCertsUrl: certificatesUrl } }),
  });
}

async function certificates(client: Awaited<ReturnType<typeof openClient>>, signal: AbortSignal) {
  try {
    return await orAbort(client.getFederatedSignonCertsAsync(), signal);
  } catch (error) {
    throw new RpcError('unavailable', {
      message: 'certificates for token verification cannot be loaded',
      cause: error,
    });
  }
}

/** The token of a Bearer header of reasonable length. Throws RpcError `unauthorized` for anything else. */
export function tokenOf(authorization: string | undefined): string {
  const token = (authorization?.length ?? 0) > TOKEN_CHARS_MAX ? undefined : BEARER.exec(authorization ?? '')?.[1];
  if (token === undefined) {
    throw new RpcError('unauthorized', { message: 'Unauthorized: send an OIDC token as Authorization: Bearer' });
  }
  return token;
}
