// The turns that run on this instance, by id.
import type { RunningTurn } from './turn.ts';

export interface RunningTurns {
  /** Kept until its `done` has settled. */
  add(turn: RunningTurn): void;
  find(turnId: string): RunningTurn | undefined;
  /**
   * Resolves when all turns have ended. Those that run after `graceMs` end as interrupted, also if they are added
   * later: their prompts were being admitted.
   */
  drain(graceMs: number): Promise<void>;
}

/**
 * The Map holds entries that are emptied when their turn ends. V8 copies a Map now and then when many keys are added
 * and deleted, and an old copy keeps its values until the next full garbage collection: with all streams and events of
 * ended turns, that was a twentieth of a prompt's time (bench `prompt`, throughput).
 */
export function createRunningTurns(): RunningTurns {
  const entries = new Map<string, { turn: RunningTurn | undefined }>();
  let isGraceOver = false;
  const all = (): RunningTurn[] => [...entries.values()].flatMap(({ turn }) => turn ?? []);
  return {
    add(turn) {
      const entry: { turn: RunningTurn | undefined } = { turn };
      entries.set(turn.turnId, entry);
      const remove = (): void => {
        entry.turn = undefined;
        entries.delete(turn.turnId);
      };
      turn.done.then(remove, remove);
      if (isGraceOver) turn.stop('interrupted');
    },
    find: (turnId) => entries.get(turnId)?.turn,
    async drain(graceMs) {
      const timer = setTimeout(() => {
        isGraceOver = true;
        for (const turn of all()) turn.stop('interrupted');
      }, graceMs);
      while (entries.size > 0) await Promise.allSettled(all().map(({ done }) => done));
      timer.unref();
    },
  };
}
