// The readers on this instance of turns that run elsewhere. All readers of one turn share its watch, its reads and its
// log in memory; they end with the last reader.
import type { Ref } from '../../../store/store.ts';
import type { Span } from '../../../telemetry/timings.ts';
import type { TurnDeps } from '../../deps.ts';
import type { EventLog } from '../../records/event-log.ts';
import type { EndedTurn } from '../turn.ts';
import { followTurn } from './follow-turn.ts';

export interface FollowedTurn {
  readonly log: EventLog;
  readonly done: Promise<EndedTurn>;
  /** The wait for a turn on another instance counts as the model's time. */
  readonly spans: readonly Span[];
}

export interface Followers {
  /**
   * When `signal` aborts (the client has disconnected), following ends for this reader and `done` rejects with its
   * reason; the turn continues.
   */
  follow(ref: Ref, turnId: string, signal: AbortSignal): FollowedTurn;
}

interface Followed {
  readonly log: EventLog;
  readonly done: Promise<EndedTurn>;
  readonly controller: AbortController;
  readers: number;
}

export function createFollowers(deps: TurnDeps): Followers {
  const turns = new Map<string, Followed>();

  function open(ref: Ref, turnId: string): Followed {
    const known = turns.get(turnId);
    if (known !== undefined) return known;
    const controller = new AbortController();
    const followed: Followed = { ...followTurn(deps, ref, turnId, controller.signal), controller, readers: 0 };
    turns.set(turnId, followed);
    const close = (): void => forget(turnId, followed);
    followed.done.then(close, close);
    return followed;
  }

  /** The next reader begins anew: with the stored end of the turn, or after a failed read. */
  function forget(turnId: string, followed: Followed): void {
    if (turns.get(turnId) === followed) turns.delete(turnId);
  }

  return {
    follow(ref, turnId, signal) {
      const followed = open(ref, turnId);
      followed.readers++;
      const startMs = performance.now();
      const spans: Span[] = [];
      const left = Promise.withResolvers<never>();
      const onAbort = (): void => left.reject(signal.reason);
      if (signal.aborted) onAbort();
      else signal.addEventListener('abort', onAbort, { once: true });
      const done = Promise.race([followed.done, left.promise]).finally(() => {
        spans.push({ phase: 'model', startMs, endMs: performance.now() });
        signal.removeEventListener('abort', onAbort);
        followed.readers--;
        if (followed.readers > 0) return;
        forget(turnId, followed);
        followed.controller.abort(new Error('the last reader of the turn has left'));
      });
      done.catch(() => {});
      return { log: followed.log, done, spans };
    },
  };
}
