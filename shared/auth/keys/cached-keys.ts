// Keys held in memory above a source that is slow, metered and sometimes down: when to reread it, what to trust
// meanwhile, and when to log it. Independent of Secret Manager.
import { orAbort } from '../../async.ts';
import type { Clock } from '../../clock.ts';
import type { ApiKey } from '../../config/key-document.ts';
import { RpcError } from '../../errors.ts';
import { errorFields, type Logger } from '../../log.ts';
import { createKeyIndex, type KeyIndex } from './key-index.ts';
import type { Keys } from './keys.ts';

/** What a source answers. `complete: false`: some keys that are valid could not be read this time. */
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
  /** Every age here is by its monotonic side: a wall clock that steps back would make old keys young. */
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
 * Keys that are at most 60 s old: refreshed in the background from 45 s on, awaited from 60 s on. An unknown key
 * rereads at most once per 5 s; all callers share that reading. While the source is down the last reading serves for 10
 * min, then `unavailable`; an unknown key is `unavailable` rather than unauthorized whenever what is known may be out
 * of date.
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
      // The age counts from before the read began: the answer is certain to be newer than that moment.
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

  /** Joins the reading under way or starts one; undefined when it is too early for another. */
  const reread = (): Promise<void> | undefined => {
    if (reading !== undefined) return reading;
    const everyMs = known === undefined ? FIRST_READ_EVERY_MS : REREAD_EVERY_MS;
    // Repeated failures slow the attempts down (a quota that is used up must be able to recover), never below the base
    // interval.
    const maxMs = ageMs() < LAST_KNOWN_GOOD_MS ? BACKOFF_MAX_MS : REREAD_EVERY_MS;
    const waitMs = failures < 2 ? everyMs : Math.min(maxMs, everyMs * 2 ** Math.min(failures - 1, 6));
    if (clock.monotonic() - startedAtMs < waitMs) return undefined;
    reading = attempt().finally(() => {
      reading = undefined;
    });
    return reading;
  };

  /** Makes what is known less than 60 s old if that is possible without waiting on a source that has just failed. */
  const renew = async (signal: AbortSignal | undefined): Promise<void> => {
    const arrivedAtMs = clock.monotonic();
    // A reading begun before this request arrived may have been frozen with its instance: it gets one successor.
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
