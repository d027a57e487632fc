// The turns that run on this instance, by id.
import type { RunningTurn } from './turn-runner.ts';

export interface RunningTurns {
  /** Kept until its `done` has settled. */
  add(turn: RunningTurn): void;
  find(turnId: string): RunningTurn | undefined;
  all(): RunningTurn[];
}

/**
 * Turns lie in boxes that are emptied when they end. A Map that many keys pass through is copied now and then, and what
 * a discarded copy holds lives until the next full collection: with every stream and event of its turns, that was a
 * twentieth of a prompt's time.
 */
export function createRunningTurns(): RunningTurns {
  const boxes = new Map<string, { turn: RunningTurn | undefined }>();
  return {
    add(turn) {
      const box = { turn: turn as RunningTurn | undefined };
      boxes.set(turn.turnId, box);
      const leave = (): void => {
        box.turn = undefined;
        boxes.delete(turn.turnId);
      };
      turn.done.then(leave, leave);
    },
    find: (turnId) => boxes.get(turnId)?.turn,
    all: () => [...boxes.values()].flatMap(({ turn }) => (turn === undefined ? [] : [turn])),
  };
}
