// API keys: what a key is, and the one rule that matches a presented key. Where keys come from is an adapter
// (env-keys.ts, secret-manager.ts).
import type { ApiKey, Scope } from '../../config/key-document.ts';
import type { Limit } from '../../config/limits.ts';

/**
 * Who is calling. The id owns every session, login, connection, terminal and idempotency record.
 */
export interface Caller {
  readonly keyId: string;
  readonly scopes: ReadonlySet<Scope>;
  readonly limits: readonly Limit[];
  /**
   * Digest of the key that was presented, for what outlives the request (sockets, tickets) and must end with the key.
   */
  readonly digest?: Uint8Array;
}

/**
 * The Keys port: finds the key behind a digest, at once when it is in memory (no promise on the hot path). Throws or
 * rejects with RpcError `unavailable` when keys cannot be had at all.
 */
export interface Keys {
  find(
    digest: Uint8Array,
    options?: {
      readonly signal?: AbortSignal;
      /**
       * Called for an unknown key: whether the source may be read again because of it. Default: yes.
       */
      readonly mayReread?: () => boolean;
    },
  ): ApiKey | undefined | Promise<ApiKey | undefined>;
  /** For the verbose health check; also warms an adapter that reads its keys from outside. */
  ping(options?: { readonly signal?: AbortSignal }): Promise<void>;
}
