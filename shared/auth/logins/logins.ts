// Stored credentials of providers (logins), encrypted at rest, readable only by the key id that stored them. `use`
// returns a token for one turn; tokens are never sent to callers, logged or stored in plain text.
import { createHash } from 'node:crypto';
import { z } from 'zod';
import type { Clock, Ids } from '../../clock.ts';
import { RpcError } from '../../errors.ts';
import { type DocumentOf, defineDocument } from '../../store/define-document.ts';
import type { Ref, Store } from '../../store/store.ts';
import { transact } from '../../store/transact.ts';
import { Envelope, type KeyWrapper, open, seal } from './envelope.ts';
import { LOGIN_PROVIDERS, type LoginCheck, type LoginProvider, refusal } from './login-check.ts';
import { readToken } from './login-token.ts';

/** Lifetime of a login, unless its token expires earlier. */
export const LOGIN_MS = 30 * 86_400_000;
/** Maximum tolerated clock skew between instances. */
const AHEAD_MS_MAX = 5 * 60_000;
const STORE_TIMEOUT_MS = 5_000;

export interface Login {
  readonly sessionId: string;
  readonly expiresAtMs: number;
}

export interface Logins {
  /**
   * Checks the token with its provider and stores it encrypted. Throws RpcError `invalid_params` when the provider
   * refuses the token or it has expired, `unavailable` when the provider, the encryption key or the store cannot be
   * reached (nothing is stored then, unless only the response of the store was lost), `forbidden` when no encryption
   * key is configured.
   */
  login(owner: string, provider: LoginProvider, token: string, signal: AbortSignal): Promise<Login>;
  /** Deletes a login. Returns false when the owner has no such login. */
  logout(owner: string, sessionId: string, signal: AbortSignal): Promise<boolean>;
  /**
   * Returns the credentials for one turn. Throws RpcError `not_found` when the login is unknown, belongs to another
   * owner, has expired or was encrypted with a deleted key (the message is the same for all); `unavailable` when the
   * encryption key or the store cannot be reached.
   */
  use(
    owner: string,
    sessionId: string,
    signal: AbortSignal,
  ): Promise<{ readonly provider: LoginProvider; token(): string }>;
  /**
   * Returns the provider of a login without decrypting its token; undefined if `use` would throw `not_found` for it.
   * Throws RpcError `unavailable`.
   */
  providerOf(owner: string, sessionId: string, signal: AbortSignal): Promise<LoginProvider | undefined>;
}

export const LoginDocuments = defineDocument({
  collection: 'logins',
  schema: Envelope.extend({
    /** Key id. */
    owner: z.string(),
    provider: z.enum(LOGIN_PROVIDERS),
    created_at: z.string(),
    expires_at_ms: z.number(),
  }),
  owned: { orderBy: 'created_at' },
  secret: Object.keys(Envelope.shape),
  id: 'hash of key id and session id',
  holds: 'credentials of a provider, envelope-encrypted',
  writtenBy: '`auth.login`',
  kept: 'as long as the login',
});
type LoginDocument = DocumentOf<typeof LoginDocuments>;

export interface LoginsDeps {
  readonly store: Store;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly check: LoginCheck;
  /** Undefined: no encryption key is configured. */
  readonly wrapper: KeyWrapper | undefined;
}

export function createLogins({ store, clock, ids, check, wrapper }: LoginsDeps): Logins {
  /** Checks expires_at_ms, because the store may still return an expired document. */
  async function find(owner: string, sessionId: string, signal: AbortSignal): Promise<LoginDocument | undefined> {
    const options = { timeoutMs: STORE_TIMEOUT_MS, signal };
    const [snapshot] = await store.get([loginRef(owner, sessionId)], options);
    const login = LoginDocuments.read(snapshot);
    if (login === undefined) return undefined;
    const leftMs = login.expires_at_ms - clock.now();
    // A longer remaining lifetime was written by an instance with a wrong clock; the real expiry is unknown.
    return leftMs > 0 && leftMs <= LOGIN_MS + AHEAD_MS_MAX ? login : undefined;
  }

  return {
    async login(owner, provider, token, signal) {
      if (wrapper === undefined) throw noKey();
      const tokenEndsAtMs = readToken(token).expiresAtMs ?? Number.POSITIVE_INFINITY;
      if (tokenEndsAtMs <= clock.now()) throw refusal('this token has expired');
      await check(provider, token, signal);
      const sessionId = ids.next('auth');
      const nowMs = clock.now();
      const facts = { provider, expires_at_ms: Math.min(nowMs + LOGIN_MS, tokenEndsAtMs) };
      const envelope = await seal(wrapper, token, bindingOf(owner, sessionId, facts), signal);
      const data: LoginDocument = { owner, ...facts, created_at: new Date(nowMs).toISOString(), ...envelope };
      const options = { expireAtMs: facts.expires_at_ms, if: 'absent' } as const;
      await store.commit([LoginDocuments.write(loginRef(owner, sessionId), data, options)], {
        timeoutMs: STORE_TIMEOUT_MS,
        signal,
      });
      return { sessionId, expiresAtMs: facts.expires_at_ms };
    },

    async logout(owner, sessionId, signal) {
      const ref = loginRef(owner, sessionId);
      const { result } = await transact(
        store,
        [ref],
        ([snapshot]) => {
          const found = LoginDocuments.read(snapshot) !== undefined;
          return { writes: found ? [{ ref, delete: true }] : [], result: found };
        },
        { timeoutMs: STORE_TIMEOUT_MS, signal },
      );
      return result;
    },

    async use(owner, sessionId, signal) {
      const login = await find(owner, sessionId, signal);
      if (login === undefined || wrapper === undefined) throw notFound();
      const token = await open(wrapper, login, bindingOf(owner, sessionId, login), signal);
      if (token === undefined) throw notFound();
      return { provider: login.provider, token: () => token };
    },

    providerOf: async (owner, sessionId, signal) => (await find(owner, sessionId, signal))?.provider,
  };
}

/** The owner is part of the hash, so the session id of another key refers to another, absent document. */
function loginRef(owner: string, sessionId: string): Ref {
  const id = createHash('sha256').update(`${owner.length}:${owner}${sessionId}`).digest('base64url');
  return LoginDocuments.ref(id);
}

/** Additional authenticated data (AAD): decryption fails if the owner or the expiry of the document was changed. */
function bindingOf(
  owner: string,
  sessionId: string,
  { provider, expires_at_ms }: Pick<LoginDocument, 'provider' | 'expires_at_ms'>,
): Uint8Array {
  return Buffer.from(JSON.stringify(['gateway.login.v1', owner, sessionId, provider, expires_at_ms]));
}

function notFound(): RpcError {
  return new RpcError('not_found', { message: 'Not found: the login does not exist or has expired; call auth.login' });
}

function noKey(): RpcError {
  return new RpcError('forbidden', {
    message: 'Forbidden: this deployment has no key to encrypt credentials; its operator must set KMS_KEY',
    data: { disabled_by: 'deployment' },
  });
}
