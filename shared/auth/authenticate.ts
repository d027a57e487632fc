// Authenticates a caller by two headers, before the body is read. Keys in a query string are ignored.
import { hash } from 'node:crypto';
import type { Clock } from '../clock.ts';
import type { ApiKey } from '../config/values/key-document.ts';
import type { Limit } from '../config/values/limits.ts';
import { RpcError } from '../errors.ts';
import type { Caller, Keys } from './keys/keys.ts';
import type { Client, WrongCredentials } from './wrong-credentials.ts';

/** The headers that can carry a key; node's IncomingHttpHeaders fits. */
export interface CredentialHeaders {
  readonly 'x-api-key'?: string | string[] | undefined;
  readonly authorization?: string | undefined;
}

/**
 * Returns the caller of a request; synchronously when the keys are in memory. Throws (or rejects with) RpcError
 * `unauthorized`, and `unavailable` when the keys cannot be loaded.
 */
export type Authenticate = (headers: CredentialHeaders, options?: AuthenticateCall) => Caller | Promise<Caller>;

export interface AuthenticateCall {
  readonly signal?: AbortSignal;
  /** The sender of the request, whose wrong keys are counted. Undefined: not counted. */
  readonly client?: Client;
  /** The request has another credential, which is checked next; a wrong key is not counted. */
  readonly isOptional?: boolean;
}

export interface AuthenticateOptions {
  readonly keys: Keys;
  readonly clock: Clock;
  /** Limits of keys without limits of their own. */
  readonly defaultLimits: readonly Limit[];
  readonly wrongCredentials?: WrongCredentials;
}

const KEY_CHARS_MAX = 1024;
const BEARER = /^bearer +(\S+) *$/i;

/**
 * Returns the caller of a key by its digest, for connections and other state that outlives the authenticated request.
 * Throws (or rejects with) RpcError `unauthorized` once the key is removed or expired, and `unavailable` when the keys
 * cannot be loaded.
 */
export type Recognize = (digest: Uint8Array, options?: { readonly signal?: AbortSignal }) => Caller | Promise<Caller>;

export function createRecognize(options: AuthenticateOptions): Recognize {
  return (digest, call) => then(options.keys.find(digest, call), (key) => toCaller(key, options));
}

/**
 * Reads `X-API-Key: <key>` or `Authorization: Bearer <key>`. If a request has both, `X-API-Key` is used; if they are
 * keys of different ids, the request is refused. Wrong keys are counted per address, missing ones are not.
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
    // Above the limit of wrong keys, a key is looked up in memory only and causes no read of Secret Manager.
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
      // If the lookup fails, the token counts as no key.
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

/** Whether a request contains a key. An empty header or a scheme other than Bearer is no key. */
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

/** Checks the length before the pattern runs; no key of the gateway is longer. */
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

/** Continues synchronously if `value` is no promise, so that keys in memory cost no promise. */
function then<T, R>(value: T | Promise<T>, next: (value: T) => R | Promise<R>): R | Promise<R> {
  return value instanceof Promise ? value.then(next) : next(value);
}
