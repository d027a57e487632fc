// The first gate: who is calling, judged from two headers alone, before a byte of the body is read. Keys in a query string are
// never looked at.
import { hash } from 'node:crypto';
import type { Clock } from '../clock.ts';
import { RpcError } from '../errors.ts';
import type { Limit } from '../rate-limit/limiter.ts';
import type { ApiKey, Caller, Keys } from './keys.ts';

/** The headers that can carry a key; node's IncomingHttpHeaders fits. */
export interface CredentialHeaders {
  readonly 'x-api-key'?: string | string[] | undefined;
  readonly authorization?: string | undefined;
}

/**
 * The caller behind a request's headers; at once when keys are in memory. Throws (or rejects with) RpcError `unauthorized`, and
 * `unavailable` when keys cannot be had.
 */
export type Authenticate = (
  headers: CredentialHeaders,
  options?: { readonly signal?: AbortSignal },
) => Caller | Promise<Caller>;

export interface AuthenticateOptions {
  readonly keys: Keys;
  readonly clock: Clock;
  /** Limits of keys that carry none. */
  readonly defaultLimits: readonly Limit[];
}

const KEY_CHARS_MAX = 1024;
const BEARER = /^bearer +(\S+) *$/i;

/**
 * Who a key is now, by its digest: for what outlives the request that presented it. Throws (or rejects with) RpcError `unauthorized` once
 * the key is withdrawn or expired, and `unavailable` when keys cannot be had.
 */
export type Recognize = (digest: Uint8Array, options?: { readonly signal?: AbortSignal }) => Caller | Promise<Caller>;

export function createRecognize({ keys, clock, defaultLimits }: AuthenticateOptions): Recognize {
  const admit = (key: ApiKey | undefined): Caller => {
    if (key === undefined) throw new RpcError('unauthorized', { message: 'Unauthorized: the API key is not valid' });
    if (key.expiresAtMs !== undefined && key.expiresAtMs <= clock.now()) {
      throw new RpcError('unauthorized', { message: 'Unauthorized: the API key has expired' });
    }
    return { keyId: key.id, scopes: key.scopes, limits: key.limits ?? defaultLimits, digest: key.digest };
  };
  return (digest, options) => {
    const found = keys.find(digest, options);
    return found instanceof Promise ? found.then(admit) : admit(found);
  };
}

/** Builds the gate. `X-API-Key: <key>` or `Authorization: Bearer <key>`; both only when they agree (contract section 2). */
export function createAuthenticate(options: AuthenticateOptions): Authenticate {
  const recognize = createRecognize(options);
  return (headers, call) => recognize(hash('sha256', presentedKey(headers), 'buffer'), call);
}

function presentedKey(headers: CredentialHeaders): string {
  const header = headers['x-api-key'];
  const plain = header === '' ? undefined : header;
  const authorization = headers.authorization ?? '';
  // Lengths are bounded before the pattern runs or anything is hashed.
  if (Array.isArray(plain) || (plain?.length ?? 0) > KEY_CHARS_MAX || authorization.length > KEY_CHARS_MAX + 16) {
    throw new RpcError('unauthorized', { message: 'Unauthorized: the API key is not valid' });
  }
  const bearer = authorization === '' ? undefined : BEARER.exec(authorization)?.[1];
  if (plain !== undefined && bearer !== undefined && plain !== bearer) {
    throw new RpcError('unauthorized', {
      message: 'Unauthorized: X-API-Key and Authorization carry different keys; send one of them',
    });
  }
  const key = plain ?? bearer;
  if (key === undefined) {
    throw new RpcError('unauthorized', {
      message: 'Unauthorized: send an API key in the X-API-Key header or as Authorization: Bearer',
    });
  }
  return key;
}
