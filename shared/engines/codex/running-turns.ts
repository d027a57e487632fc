// The tokens that stand for credentials inside Codex. Each thread has a random one; it is worth something only while a
// turn of the thread runs, for that turn's account and model.
import { randomBytes } from 'node:crypto';
import type { Account } from './account.ts';

export interface RunningTurn {
  readonly account: Account;
  /**
   * Without provider: the turn's own, and those of the turns before, with which Codex shortens the conversation when
   * the model changes.
   */
  readonly modelIds: readonly string[];
  /** Aborted when the turn is over. */
  readonly over: AbortSignal;
}

/** Of one app-server. */
export interface RunningTurns {
  /** Makes the token valid until the returned function is called, which ends the requests that have it. */
  begin(token: string, turn: Omit<RunningTurn, 'over'>): () => void;
  find(token: string): RunningTurn | undefined;
}

export function createToken(): string {
  return randomBytes(32).toString('base64url');
}

export function createRunningTurns(): RunningTurns {
  const turns = new Map<string, RunningTurn>();
  return {
    begin(token, turn) {
      const controller = new AbortController();
      const running = { ...turn, over: controller.signal };
      turns.set(token, running);
      return () => {
        if (turns.get(token) === running) turns.delete(token);
        controller.abort();
      };
    },
    find: (token) => turns.get(token),
  };
}
