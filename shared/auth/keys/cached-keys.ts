// Caches the keys of a source that is slow, metered and sometimes down. Decides when to read it again, how long the
// cached keys are used, and what is logged. Independent of Secret Manager.
import { orAbort } from '../../async.ts';
import type { Clock } from '../../clock.ts';
import type { ApiKey } from '../../config/values/key-document.ts';
import { RpcError } from '../../errors.ts';
import { errorFields, type Logger } from '../../log.ts';
import { createKeyIndex, type KeyIndex } from './key-index.ts';
import type { Keys } from './keys.ts';

/** The result of a read. `complete: false`: some valid keys could not be read. */
export interface KeyReading {
  readonly keys: readonly ApiKey[];
  readonly complete: boolean;
}

export interface CachedKeysOptions {
  /**
   * Reads all valid keys; has its own deadline. Called one at a time, at most once per 5 s (per 1 s until it first
   * succeeds).
   */
  readonly read: () => Promise<KeyReading>;
  /** Ages use the monotonic clock, because a wall clock that steps back would make old keys look fresh. */
  readonly clock: Pick<Clock, 'monotonic'>;
  readonly log: Logger;
}

type FindOptions = Parameters<Keys['find']>[1];

const FRESH_MS = 60_000;
const REFRESH_AFTER_MS = 45_000;
const REFRESH_JITTER_MS = 10_000;
const REREAD_EVERY_MS = 5000;
const FIRST_READ_EVERY_MS = 1000;
const BACKOFF_MAX_MS = 20_000;
const LAST_KNOWN_GOOD_MS = 600_000;
const OUTAGE_MS = 30_000;

/**
 * Keys that are at most 60 s old: read again in the background after 45 s, awaited after 60 s. An unknown key causes at
 * most one read per 5 s, shared by all callers. While the source is down the cached keys are used for 10 min, then
 * `find` throws `unavailable`. If the cached keys may be out of date, an unknown key is `unavailable`, not
 * `unauthorized`.
 */
export function createCachedKeys({ read, clock, log }: CachedKeysOptions): Keys {
  let known:
    | { readonly index: KeyIndex; readonly complete: boolean; readonly atMs: number; readonly renewAtMs: number }
    | undefined;
  let reading: Promise<void> | undefined;
  let startedAtMs = Number.NEGATIVE_INFINITY;
  let failures = 0;

  const attempt = async (): Promise<void> => {
    startedAtMs = clock.monotonic();
    try {
      const { keys, complete } = await read();
      // The age counts from the start of the read, because the result is at least as new as that moment.
      const renewAtMs = startedAtMs + REFRESH_AFTER_MS + Math.random() * REFRESH_JITTER_MS;
      known = { index: createKeyIndex(keys), complete, atMs: startedAtMs, renewAtMs };
      failures = complete ? 0 : failures + 1;
    } catch (error) {
      failures++;
      log.error('API keys could not be read', {
        age_ms: known && startedAtMs - known.atMs,
        ...errorFields(error),
      });
    }
  };

  const ageMs = (): number => (known === undefined ? Number.POSITIVE_INFINITY : clock.monotonic() - known.atMs);

  /** Returns the running read or starts one; undefined if the last attempt was too recent. */
  const reread = (): Promise<void> | undefined => {
    if (reading !== undefined) return reading;
    const everyMs = known === undefined ? FIRST_READ_EVERY_MS : REREAD_EVERY_MS;
    // Repeated failures increase the interval, so that an exhausted quota can recover.
    const maxMs = ageMs() < LAST_KNOWN_GOOD_MS ? BACKOFF_MAX_MS : REREAD_EVERY_MS;
    const waitMs = failures < 2 ? everyMs : Math.min(maxMs, everyMs * 2 ** Math.min(failures - 1, 6));
    if (clock.monotonic() - startedAtMs < waitMs) return undefined;
    reading = attempt().finally(() => {
      reading = undefined;
    });
    return reading;
  };

  /** Reads again until the cached keys are less than 60 s old, unless the source has just failed. */
  const renew = async (signal: AbortSignal | undefined): Promise<void> => {
    const arrivedAtMs = clock.monotonic();
    // A read that was running before this request may be stale, because an idle instance is frozen: a second read
    // follows.
    for (let round = 0; round < 2 && ageMs() >= FRESH_MS; round++) {
      if (round === 1 && startedAtMs >= arrivedAtMs) return;
      const inOutage = ageMs() < LAST_KNOWN_GOOD_MS && failures > 0 && arrivedAtMs - startedAtMs < OUTAGE_MS;
      const next = reread();
      if (next === undefined || inOutage) return;
      await orAbort(next, signal);
    }
  };

  const lookup = (digest: Uint8Array): ApiKey | undefined => {
    if (known === undefined || ageMs() >= LAST_KNOWN_GOOD_MS) throw unavailable();
    return known.index.find(digest);
  };

  const findSlowly = async (digest: Uint8Array, options: FindOptions = {}): Promise<ApiKey | undefined> => {
    const { signal, mayReread } = options;
    await renew(signal);
    const found = lookup(digest);
    if (found !== undefined) return found;
    const next = mayReread?.() === false ? undefined : reread();
    if (next !== undefined) await orAbort(next, signal);
    const again = lookup(digest);
    if (again === undefined && (ageMs() >= FRESH_MS || !known?.complete)) throw unavailable();
    return again;
  };

  return {
    find(digest, options) {
      if (known !== undefined && ageMs() < FRESH_MS) {
        const found = known.index.find(digest);
        // Not awaited: attempt() never rejects.
        if (clock.monotonic() >= known.renewAtMs || !known.complete) void reread();
        if (found !== undefined) return found;
      }
      return findSlowly(digest, options);
    },
    async ping(options) {
      await renew(options?.signal);
      if (ageMs() >= FRESH_MS || !known?.complete) throw unavailable();
    },
  };
}

function unavailable(): RpcError {
  return new RpcError('unavailable', {
    message: 'API keys cannot be verified at the moment',
    retryAfterMs: REREAD_EVERY_MS,
  });
}
