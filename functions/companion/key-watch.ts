// Closes connections whose key was removed, has expired, or was revoked by the flag in the limiter's document. Checks
// each key once for all its connections. An outage of the store or of the keys closes no connection.
import type { Caller } from '../../shared/auth/keys/keys.ts';
import { RpcError } from '../../shared/errors.ts';
import type { Gateway } from '../../shared/gateway.ts';
import { errorFields, type Logger } from '../../shared/log.ts';
import { CLOSE } from '../../shared/protocol.ts';
import { toLimitRef, toLimitState } from '../../shared/rate-limit/windows/limit-document.ts';
import type { Store } from '../../shared/store/store.ts';
import type { SocketConnection } from './connection.ts';

/**
 * Keys are cached for less than 60 s, and a lookup after 45 to 55 s refreshes the cache in the background. Lookups in
 * the cache cost nothing, so they are frequent; the sockets of a removed key end within a minute.
 */
const KEY_CHECK_MS = 2_000;
/** Each check reads one document per key. */
const REVOKED_CHECK_MS = 20_000;
const READ_TIMEOUT_MS = 5_000;
const REFS_MAX = 100;

export interface KeyWatch {
  /** Starts the checks. Idempotent. */
  start(): void;
  stop(): void;
}

export interface KeyWatchDeps {
  readonly store: Store;
  readonly gateway: Gateway;
  readonly log: Logger;
  readonly connections: ReadonlySet<SocketConnection>;
}

export function createKeyWatch(
  { store, gateway, log, connections }: KeyWatchDeps,
  { keyCheckMs = KEY_CHECK_MS, revokedCheckMs = REVOKED_CHECK_MS },
): KeyWatch {
  const timers: NodeJS.Timeout[] = [];

  async function checkKeys(): Promise<void> {
    const byDigest = Map.groupBy(connections, ({ caller }) => toText(caller.digest));
    for (const held of byDigest.values()) {
      const digest = held[0]?.caller.digest;
      const now = digest && (await recognize(digest));
      if (now === undefined) continue;
      for (const connection of held) {
        if (now === 'gone') connection.close(CLOSE.policy, 'the key is no longer valid');
        else connection.refresh(now);
      }
    }
  }

  /** Undefined: the state is not available at the moment. */
  async function recognize(digest: Uint8Array): Promise<Caller | 'gone' | undefined> {
    try {
      return await gateway.recognize(digest);
    } catch (error) {
      return error instanceof RpcError && error.reason === 'unauthorized' ? 'gone' : undefined;
    }
  }

  async function checkRevoked(): Promise<void> {
    const byKey = Map.groupBy(connections, ({ caller }) => caller.keyId);
    const keyIds = [...byKey.keys()];
    for (let start = 0; start < keyIds.length; start += REFS_MAX) {
      const some = keyIds.slice(start, start + REFS_MAX);
      const found = await store.get(some.map(toLimitRef), { timeoutMs: READ_TIMEOUT_MS });
      found.forEach((snapshot, index) => {
        if (!toLimitState(snapshot).revoked) return;
        for (const connection of byKey.get(some[index] ?? '') ?? [])
          connection.close(CLOSE.policy, 'the key is revoked');
      });
    }
  }

  /** Runs `check` at an interval, never two at a time. */
  function every(intervalMs: number, check: () => Promise<void>): NodeJS.Timeout {
    let running = false;
    return setInterval(() => {
      if (running) return;
      running = true;
      check()
        .catch((error: unknown) => log.warn('keys of open sockets could not be checked', errorFields(error)))
        .finally(() => {
          running = false;
        });
    }, intervalMs);
  }

  return {
    start() {
      if (timers.length > 0) return;
      timers.push(every(keyCheckMs, checkKeys), every(revokedCheckMs, checkRevoked));
    },
    stop() {
      for (const timer of timers.splice(0)) clearInterval(timer);
    },
  };
}

function toText(digest: Uint8Array | undefined): string {
  return digest === undefined ? '' : Buffer.from(digest).toString('base64');
}
