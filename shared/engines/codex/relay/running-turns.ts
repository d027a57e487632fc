// The tokens that stand for credentials inside Codex. Each thread has a random one; it is valid only while a turn of
// the thread runs, for that turn's account and model, and for a bounded number of requests.
import { randomBytes } from 'node:crypto';
import type { Usage } from '../../../turn-events.ts';
import { addUsage, NO_USAGE } from '../../../usage.ts';
import type { Account } from './account.ts';
import { createRequestedCommands, type RequestedCommands } from './requested-commands.ts';

/** Requests of one turn at a time, and in all. Codex sends one after the other, at most some hundreds in a turn. */
const OPEN_MAX = 4;
const REQUESTS_MAX = 2_000;

export interface RunningTurn {
  readonly account: Account;
  /**
   * Without provider: the turn's own, and those of the turns before, with which Codex shortens the conversation when
   * the model changes.
   */
  readonly modelIds: readonly string[];
  /** Aborted when the turn is over. */
  readonly over: AbortSignal;
  readonly commands: RequestedCommands;
  /** Counts a request; call the returned function at its end. Undefined: the turn may have no further one now. */
  admit(): (() => void) | undefined;
  /** Adds what the provider has counted for one request. */
  charge(usage: Usage): void;
}

export interface BegunTurn {
  readonly commands: RequestedCommands;
  /** What the provider has counted for the turn so far. */
  readonly usage: Usage;
  /** Ends the requests of the turn; its token is invalid from then on. */
  end(): void;
}

/** The running turns of one app-server, by token. */
export interface RunningTurns {
  /** Makes the token valid until the turn is ended. */
  begin(token: string, turn: Pick<RunningTurn, 'account' | 'modelIds'>): BegunTurn;
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
      const commands = createRequestedCommands();
      let open = 0;
      let requests = 0;
      const running: RunningTurn = {
        ...turn,
        over: controller.signal,
        commands,
        admit() {
          if (open >= OPEN_MAX || requests >= REQUESTS_MAX) return undefined;
          // Codex sends the next request when it has returned from all calls of the model.
          commands.allReturned();
          open++;
          requests++;
          return () => {
            open--;
          };
        },
        charge(more) {
          begun.usage = addUsage(begun.usage, more);
        },
      };
      const begun = {
        commands,
        usage: NO_USAGE,
        end() {
          if (turns.get(token) === running) turns.delete(token);
          controller.abort();
        },
      };
      turns.set(token, running);
      return begun;
    },
    find: (token) => turns.get(token),
  };
}
