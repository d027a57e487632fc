// The Keys port, which finds the API key of a request. Adapters: env-keys.ts, secret-manager.ts.
import type { ApiKey, Scope } from '../../config/values/key-document.ts';
import type { Limit } from '../../config/values/limits.ts';

/** An authenticated caller. Its key id owns sessions, logins, connections, terminals and idempotency records. */
export interface Caller {
  readonly keyId: string;
  readonly scopes: ReadonlySet<Scope>;
  readonly limits: readonly Limit[];
  /**
   * Digest of the caller's key, for sockets and tickets, which outlive the request and must end when the key is
   * removed.
   */
  readonly digest?: Uint8Array;
}

/**
 * Finds the key of a digest, synchronously when the keys are in memory. Throws or rejects with RpcError `unavailable`
 * when the keys cannot be loaded.
 */
export interface Keys {
  find(
    digest: Uint8Array,
    options?: {
      readonly signal?: AbortSignal;
      /** Called for an unknown key; returns whether it may cause another read of the source. Default: yes. */
      readonly mayReread?: () => boolean;
    },
  ): ApiKey | undefined | Promise<ApiKey | undefined>;
  /** For the verbose health check. Loads the keys if the adapter has not loaded them. */
  ping(options?: { readonly signal?: AbortSignal }): Promise<void>;
}
