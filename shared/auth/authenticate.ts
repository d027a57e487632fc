// The first gate: who is calling, judged from two headers alone, before a byte of the body is read. Keys in a query
// string are never looked at.
import { hash } from 'node:crypto';
import type { Clock } from '../clock.ts';
import type { ApiKey } from '../config/key-document.ts';
import type { Limit } from '../config/limits.ts';
import { RpcError } from '../errors.ts';
import type { Caller, Keys } from './keys/keys.ts';
import type { Client, WrongCredentials } from './wrong-credentials.ts';

/** The headers that can carry a key; node's IncomingHttpHeaders fits. */
export interface CredentialHeaders {
  readonly 'x-api-key'?: string | string[] | undefined;
  readonly authorization?: string | undefined;
}

/**
 * The caller behind a request's headers; at once when keys are in memory. Throws (or rejects with) RpcError
 * `unauthorized`, and `unavailable` when keys cannot be had.
 */
export type Authenticate = (headers: CredentialHeaders, options?: AuthenticateCall) => Caller | Promise<Caller>;

export interface AuthenticateCall {
  readonly signal?: AbortSignal;
  /** Where the request comes from: its wrong keys are counted. Undefined: they are not. */
  readonly client?: Client;
  /** The request carries another credential beside the key, which is checked next: a wrong key is not counted. */
  readonly isOptional?: boolean;
}

export interface AuthenticateOptions {
  readonly keys: Keys;
  readonly clock: Clock;
  /** Limits of keys that carry none. */
  readonly defaultLimits: readonly Limit[];
  readonly wrongCredentials?: WrongCredentials;
}

const KEY_CHARS_MAX = 1024;
const BEARER = /^bearer +(\S+) *$/i;

/**
 * Who a key is now, by its digest: for what outlives the request that presented it. Throws (or rejects with) RpcError
 * `unauthorized` once the key is withdrawn or expired, and `unavailable` when keys cannot be had.
 */
export type Recognize = (digest: Uint8Array, options?: { readonly signal?: AbortSignal }) => Caller | Promise<Caller>;

export function createRecognize(options: AuthenticateOptions): Recognize {
  return (digest, call) => then(options.keys.find(digest, call), (key) => toCaller(key, options));
}

/**
 * Builds the gate. `X-API-Key: <key>` or `Authorization: Bearer <key>`. Where both are there, `X-API-Key` counts,
 * unless the token is a key of another id: then it is not known who calls. Wrong keys are counted per address; none at
 * all is not.
 */
export function createAuthenticate(options: AuthenticateOptions): Authenticate {
  const { keys, wrongCredentials: wrong } = options;

  return (headers, { signal, client, isOptional = false } = {}) => {
    const { plain, bearer } = presentedKeys(headers);
    const isCounted = wrong !== undefined && client !== undefined && !isOptional;
    const key = plain ?? bearer;
    if (key === undefined) throw isCounted ? wrong.absent(client, absent()) : absent();
    const fail = (error: unknown): never => {
      const isWrong = error instanceof RpcError && error.reason === 'unauthorized';
      throw isCounted && isWrong ? wrong.refuse(client, error) : error;
    };
    // A guess beyond the bucket is looked up in memory only: it causes no read of Secret Manager.
    const mayReread = (): boolean => client === undefined || wrong?.isThrottled(client) !== true;
    const recognize = (text: string, may: () => boolean): ApiKey | undefined | Promise<ApiKey | undefined> =>
      text.length > KEY_CHARS_MAX
        ? undefined
        : keys.find(hash('sha256', text, 'buffer'), { mayReread: may, ...(signal && { signal }) });
    const admit = (found: ApiKey | undefined): Caller | Promise<Caller> => {
      const caller = toCaller(found, options);
      if (plain === undefined || bearer === undefined || plain === bearer) return caller;
      return besideBearer(caller, bearer);
    };
    const besideBearer = async (caller: Caller, token: string): Promise<Caller> => {
      // What cannot be looked up now is not known to be a key.
      const other = await new Promise<ApiKey | undefined>((resolve) => {
        resolve(recognize(token, never));
      }).catch(() => undefined);
      if (other === undefined || other.id === caller.keyId) return caller;
      throw new RpcError('unauthorized', {
        message: 'Unauthorized: X-API-Key and Authorization carry different keys; send one of them',
      });
    };
    try {
      const caller = then(recognize(key, mayReread), admit);
      return caller instanceof Promise ? caller.catch(fail) : caller;
    } catch (error) {
      return fail(error);
    }
  };
}

/** Whether a request presents a key at all: an empty header, or another scheme than Bearer, presents none. */
export function hasKey(headers: CredentialHeaders): boolean {
  const { plain, bearer } = presentedKeys(headers);
  return plain !== undefined || bearer !== undefined;
}

function presentedKeys({ 'x-api-key': header, authorization = '' }: CredentialHeaders): {
  readonly plain: string | undefined;
  readonly bearer: string | undefined;
} {
  const plain = Array.isArray(header) ? header.join() : header;
  return { plain: plain === '' ? undefined : plain, bearer: bearerOf(authorization) };
}

/** The length is bounded before the pattern runs; a longer token is none of our keys, whatever it is. */
function bearerOf(authorization: string): string | undefined {
  if (authorization.length <= KEY_CHARS_MAX + 16) return BEARER.exec(authorization)?.[1];
  return /^bearer /i.test(authorization) ? authorization : undefined;
}

function toCaller(key: ApiKey | undefined, { clock, defaultLimits }: AuthenticateOptions): Caller {
  if (key === undefined) throw new RpcError('unauthorized', { message: 'Unauthorized: the API key is not valid' });
  if (key.expiresAtMs !== undefined && key.expiresAtMs <= clock.now()) {
    throw new RpcError('unauthorized', { message: 'Unauthorized: the API key has expired' });
  }
  return { keyId: key.id, scopes: key.scopes, limits: key.limits ?? defaultLimits, digest: key.digest };
}

function absent(): RpcError {
  return new RpcError('unauthorized', {
    message: 'Unauthorized: send an API key in the X-API-Key header or as Authorization: Bearer',
  });
}

function never(): boolean {
  return false;
}

/** Continues synchronously where there is nothing to wait for: keys in memory cost no promise. */
function then<T, R>(value: T | Promise<T>, next: (value: T) => R | Promise<R>): R | Promise<R> {
  return value instanceof Promise ? value.then(next) : next(value);
}
