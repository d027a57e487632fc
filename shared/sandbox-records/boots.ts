// The newest boot of the sandbox service, in one document that the gateway processes share.
import { createHash } from 'node:crypto';
import { z } from 'zod';
import type { WallClock } from '../clock.ts';
import { errorFields, type Logger } from '../log.ts';
import { type BootRecords, isNewer } from '../sandbox-link/client/boots.ts';
import type { ReachedSandbox } from '../sandbox-link/link/link.ts';
import { type DocumentOf, defineDocument } from '../store/define-document.ts';
import type { Store } from '../store/store.ts';
import { transact } from '../store/transact.ts';

export const SandboxBoots = defineDocument({
  collection: 'sandbox_boots',
  schema: z.object({
    boot_id: z.string(),
    /** Start of the service, by its clock. */
    started_at_ms: z.number(),
    /** Versions of the link's protocol, both inclusive. */
    protocol: z.object({ min: z.number(), max: z.number() }),
    /** When a gateway process last had a link to it. */
    seen_at_ms: z.number(),
  }),
  owned: 'deployment',
  id: 'hash of `SANDBOX_URL`',
  holds: 'the newest boot of the sandbox service: its id, start and protocol',
  writtenBy: 'companions that are connected to it',
  kept: '3 min after the last of them has left',
});
type SandboxBoot = DocumentOf<typeof SandboxBoots>;

/**
 * A record of a boot to which no process has had a link for so long counts as absent: after a rollback, new connections
 * do not reach the newest boot.
 */
const SEEN_MS = 180_000;
/** A record this old is renewed. */
const RENEW_MS = 45_000;
/** A time further ahead comes from a wrong clock, and the record counts as absent. */
const AHEAD_MS_MAX = 5 * 60_000;
const STORE_TIMEOUT_MS = 5_000;

export interface BootRecordsDeps {
  readonly store: Store;
  readonly clock: WallClock;
  readonly log: Logger;
  /** Address of the service. */
  readonly url: string;
}

export function createBootRecords({ store, clock, log, url }: BootRecordsDeps): BootRecords {
  const ref = SandboxBoots.ref(createHash('sha256').update(url).digest('hex').slice(0, 32));

  const current = (stored: SandboxBoot | undefined, nowMs: number): SandboxBoot | undefined => {
    if (stored === undefined || stored.seen_at_ms + SEEN_MS <= nowMs) return undefined;
    return Math.max(stored.seen_at_ms, stored.started_at_ms) > nowMs + AHEAD_MS_MAX ? undefined : stored;
  };

  return {
    async reached(boot) {
      const { result } = await transact(
        store,
        [ref],
        ([snapshot]) => {
          const nowMs = clock.now();
          const stored = current(SandboxBoots.read(snapshot), nowMs);
          const isRecorded = stored?.boot_id === boot.bootId;
          if (stored !== undefined && !isRecorded && !isNewer(boot, toReached(stored), nowMs)) {
            return { writes: [], result: toReached(stored) };
          }
          if (isRecorded && stored.seen_at_ms > nowMs - RENEW_MS) return { writes: [], result: boot };
          const { bootId: boot_id, startedAtMs: started_at_ms, protocol } = boot;
          const data = { ...stored, boot_id, started_at_ms, protocol, seen_at_ms: nowMs };
          return { writes: [SandboxBoots.write(ref, data, { expireAtMs: nowMs + SEEN_MS })], result: boot };
        },
        { timeoutMs: STORE_TIMEOUT_MS },
      );
      return result;
    },

    watch(listener) {
      const onChange = (stored: SandboxBoot | undefined): void => {
        const boot = current(stored, clock.now());
        if (boot !== undefined) listener(toReached(boot));
      };
      return SandboxBoots.watch(store, ref, onChange, (error) =>
        log.warn('the newest boot of the sandbox service cannot be read', errorFields(error)),
      );
    },
  };
}

function toReached({ boot_id: bootId, started_at_ms: startedAtMs, protocol }: SandboxBoot): ReachedSandbox {
  return { bootId, startedAtMs, protocol };
}
