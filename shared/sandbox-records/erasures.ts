// Erasures of sessions and owners that the sandbox service has not received, because it could not be reached. Each is
// stored, and repeated by any gateway process that reaches the service.
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { bounded, deadline } from '../async.ts';
import type { Clock } from '../clock.ts';
import { errorFields, type Logger } from '../log.ts';
import type { Erased, SandboxPorts } from '../sandbox-ports/ports.ts';
import { defineDocument } from '../store/define-document.ts';
import { Conflict, type Snapshot, type Store } from '../store/store.ts';

export const SandboxErasures = defineDocument({
  collection: 'sandbox_erasures',
  schema: z.object({
    /** Key id. */
    owner: z.string(),
    /** Null: everything of the owner. */
    session_id: z.string().nullable(),
    requested_at_ms: z.number(),
  }),
  queries: [{ orderBy: 'requested_at_ms' }],
  owned: { orderBy: 'requested_at_ms' },
  id: 'hash of key id and session id',
  holds: 'sessions and owners that were erased while the sandbox service could not be reached',
  writtenBy: '`conversation.delete`, `owner.erase`',
  kept: 'until a companion reaches the sandbox service, at most 7 days',
});

/** Without `agoMs`: now. */
export type ErasedNow = Omit<Erased, 'agoMs'>;

export interface Erasures {
  /**
   * Ends what runs for a session, or for all of an owner, and removes its files; where the sandbox cannot be reached in
   * a few seconds, that is recorded. Resolves with which of both happened; rejects when neither did.
   */
  erase(erased: ErasedNow): Promise<'erased' | 'recorded'>;
  /** Repeats what is recorded, as far as the sandbox is reached. Never rejects. */
  sweep(): Promise<void>;
  /** Ends the sweeps. */
  close(): Promise<void>;
}

export interface ErasuresDeps {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Logger;
  readonly sandbox: Pick<SandboxPorts, 'erase'>;
  /**
   * `here`: it is in this process; `service`: in a process that this one reaches; `elsewhere`: other gateway processes
   * reach it.
   */
  readonly place: 'here' | 'service' | 'elsewhere';
}

/** `everyMs`: between two sweeps. */
export const SWEEP_TIMES = { everyMs: 60_000, reachMs: 3_000 };
const BATCH_MAX = 100;
const SWEEP_MS_MAX = 50_000;
const KEPT_MS = 7 * 86_400_000;

export function createErasures({ store, clock, log, sandbox, place }: ErasuresDeps): Erasures {
  const closed = new AbortController();
  const records = createRecordReader(store, clock);
  let sweeping: Promise<void> | undefined;

  async function record({ owner, sessionId }: ErasedNow): Promise<void> {
    const id = createHash('sha256')
      .update(JSON.stringify([owner, sessionId]))
      .digest('hex')
      .slice(0, 32);
    const nowMs = clock.now();
    const data = { owner, session_id: sessionId ?? null, requested_at_ms: nowMs };
    await store.commit([SandboxErasures.write(SandboxErasures.ref(id), data, { expireAtMs: nowMs + KEPT_MS })]);
  }

  async function repeat(snapshot: Snapshot, signal: AbortSignal): Promise<void> {
    const { ref, version } = snapshot;
    const recorded = SandboxErasures.readKnown(snapshot);
    if (recorded === undefined || version === null) return;
    const { owner, session_id: sessionId, requested_at_ms: requestedMs } = recorded;
    await sandbox.erase(
      { owner, sessionId: sessionId ?? undefined, agoMs: records.agoMs(snapshot, requestedMs) },
      signal,
    );
    await store.commit([{ ref, delete: true, if: { version } }]).catch(ignoreConflict);
  }

  /** All at once: they share the attempt to connect, and one that fails does not prevent the others. */
  async function sweep(): Promise<void> {
    const signal = deadline(SWEEP_MS_MAX, closed.signal);
    try {
      const found = await records.read();
      const results = await Promise.allSettled(found.map((snapshot) => repeat(snapshot, signal)));
      const failed = results.filter(({ status }) => status === 'rejected');
      const count = found.length - failed.length;
      if (count > 0) log.info('repeated erasures in the sandbox service', { count });
      const [first] = failed;
      if (first?.status === 'rejected') throw first.reason;
    } catch (error) {
      if (!closed.signal.aborted) log.warn('erasures in the sandbox service are repeated later', errorFields(error));
    } finally {
      sweeping = undefined;
    }
  }

  const sweepShared = (): Promise<void> => {
    sweeping ??= sweep();
    return sweeping;
  };
  const timer = place === 'service' ? setInterval(() => void sweepShared(), SWEEP_TIMES.everyMs).unref() : undefined;

  return {
    async erase(erased) {
      const now = { ...erased, agoMs: 0 };
      try {
        if (place === 'here') await sandbox.erase(now);
        else if (place === 'service') {
          await bounded({ timeoutMs: SWEEP_TIMES.reachMs }, ({ signal }) => sandbox.erase(now, signal));
        }
        if (place !== 'elsewhere') return 'erased';
      } catch (error) {
        if (place === 'here') throw error;
        log.notice('an erasure in the sandbox service is repeated later', errorFields(error));
      }
      await record(erased);
      return 'recorded';
    },
    sweep: sweepShared,
    async close() {
      closed.abort();
      clearInterval(timer);
      await sweeping;
    },
  };
}

interface RecordReader {
  read(): Promise<Snapshot[]>;
  /** How long ago a record was written. `requestedMs`: when, by the clock of the process that wrote it. */
  agoMs(snapshot: Snapshot, requestedMs: number): number;
}

/** The clocks of both processes may be wrong, so the result is within what successive reads of this process prove. */
function createRecordReader(store: Store, clock: Clock): RecordReader {
  interface Written {
    readonly afterMs: number;
    readonly beforeMs: number;
  }
  /** When the records of the last read were written, by `clock.monotonic()`. */
  let written: ReadonlyMap<string, Written> = new Map();
  /** When the last read started, if it returned all records. */
  let allReadMs = Number.NEGATIVE_INFINITY;
  return {
    async read() {
      const startedMs = clock.monotonic();
      const found = await store.query(SandboxErasures.query({ orderBy: 'requested_at_ms', limit: BATCH_MAX }));
      const now = { afterMs: allReadMs, beforeMs: clock.monotonic() };
      written = new Map(found.map(stateOf).map((state) => [state, written.get(state) ?? now]));
      allReadMs = found.length < BATCH_MAX ? startedMs : Number.NEGATIVE_INFINITY;
      return found;
    },
    agoMs(snapshot, requestedMs) {
      const nowMs = clock.monotonic();
      const { afterMs = Number.NEGATIVE_INFINITY, beforeMs = nowMs } = written.get(stateOf(snapshot)) ?? {};
      return Math.min(nowMs - afterMs, Math.max(nowMs - beforeMs, clock.now() - requestedMs));
    },
  };
}

function stateOf({ ref, version }: Snapshot): string {
  return `${ref.id} ${version}`;
}

/** It was recorded anew meanwhile, or another process has swept it. */
function ignoreConflict(error: unknown): void {
  if (!(error instanceof Conflict)) throw error;
}
