// Writes the events of a running turn to the store, so that little is lost when this instance crashes, and other
// instances can follow it. flush-pace.ts has the delays.
import { errorFields } from '../../../log.ts';
import { Conflict } from '../../../store/store.ts';
import type { TurnDeps } from '../../deps.ts';
import type { EventLog } from '../../records/event-log.ts';
import { Turns } from '../../records/turn-documents.ts';
import { charsOf, type TurnRecord } from '../turn-record.ts';
import { createFlushPace } from './flush-pace.ts';

/** Most characters of events in the commit that ends the turn. */
const END_CHARS_MAX = 1 << 20;

export interface EventFlusher {
  /** Call after each event appended to the log. */
  touch(): void;
  /** Another instance follows the turn. */
  followed(): void;
  /**
   * Stops flushing. Resolves when no write is under way and the remaining events fit into the commit that ends the
   * turn. Rejects when a write fails; can be called again.
   */
  finish(): Promise<void>;
}

/** `onLost` is called when the record shows that another instance has ended or erased the turn. */
export function createEventFlusher(
  { store, clock, log: logger }: Pick<TurnDeps, 'store' | 'clock' | 'log'>,
  log: EventLog,
  record: TurnRecord,
  onLost: () => void,
): EventFlusher {
  let timer: NodeJS.Timeout | undefined;
  let flushing: Promise<void> | undefined;
  let finished = false;
  let lost = false;
  let armedAtMs = 0;
  const pace = createFlushPace(clock.monotonic());

  const flush = async (): Promise<void> => {
    pace.writing();
    try {
      const versions = await store.commit(record.writes(log.events, undefined, clock.now()));
      record.flushed(versions[0]);
    } catch (error) {
      if (!(error instanceof Conflict)) throw error;
      // An unconfirmed write of this instance, or the end by another one: the stored record decides.
      const [stored] = await store.get([record.ref]);
      if (stored?.version != null && Turns.read(stored)?.status === 'running') record.updateFence(stored.version);
      else {
        lost = true;
        onLost();
      }
    }
  };
  const lastSeq = (): number => log.events.at(-1)?.seq ?? 0;
  const arm = (): void => {
    if (finished || lost || timer !== undefined || flushing !== undefined || lastSeq() <= record.flushedSeq) return;
    armedAtMs = clock.monotonic();
    startIn(pace.delayMs(armedAtMs));
  };
  /** The delay of the events that wait may have become shorter. */
  const hurry = (): void => {
    if (timer === undefined || finished) return;
    clearTimeout(timer);
    const nowMs = clock.monotonic();
    startIn(Math.max(0, armedAtMs + pace.delayMs(nowMs) - nowMs));
  };
  const startIn = (ms: number): void => {
    timer = setTimeout(() => {
      timer = undefined;
      flushing = flush()
        .then(
          () => pace.written(true),
          (error: unknown) => {
            pace.written(false);
            logger.warn('turn events not flushed yet', errorFields(error));
          },
        )
        .finally(() => {
          flushing = undefined;
          arm();
        });
    }, ms);
  };

  return {
    touch() {
      const last = log.events.at(-1);
      if (last !== undefined && pace.appended(charsOf(last.event))) hurry();
      arm();
    },
    followed() {
      if (pace.followed(clock.monotonic())) hurry();
    },
    async finish() {
      finished = true;
      clearTimeout(timer);
      await flushing;
      while (!lost && charsAfter(log, record.flushedSeq) > END_CHARS_MAX) await flush();
    },
  };
}

function charsAfter({ events }: EventLog, seq: number): number {
  return events.reduce((sum, { seq: each, event }) => (each <= seq ? sum : sum + charsOf(event)), 0);
}
