// How callers read a turn: they follow it, on this instance or on another one, or read its state at one moment.
import type { Span } from '../../../telemetry/timings.ts';
import type { TurnDeps } from '../../deps.ts';
import type { NumberedEvent } from '../../records/event-log.ts';
import type { RunningTurns } from '../running-turns.ts';
import type { EndedTurn, RunningTurn } from '../turn.ts';
import { createFollowers } from './followers.ts';
import { type LocatedTurn, locateTurn, snapshotTurn, type TurnSnapshot, toNames } from './locate-turn.ts';
import { markFollowed } from './mark-followed.ts';

/** A turn that a caller follows: it runs on this or on another instance, or has ended. */
export interface TurnHandle {
  readonly sessionId: string;
  readonly conversationId: string;
  readonly turnId: string;
  /** Events after `afterSeq`, then live ones, until the turn has ended or `signal` aborts. */
  read(afterSeq: number, signal?: AbortSignal): AsyncGenerator<NumberedEvent, void, void>;
  readonly done: Promise<EndedTurn>;
  /** Durations of the phases of the turn for which this call waits; complete when `done`. */
  readonly spans: readonly Span[];
}

export interface TurnReaders {
  /** A turn to follow (see locateTurn). Throws `not_found`. */
  resume(
    owner: string,
    sessionId: string | undefined,
    turnId: string | undefined,
    signal: AbortSignal,
  ): Promise<TurnHandle>;
  /** As `resume`, without following: the stored state. Only reads. */
  snapshot(owner: string, sessionId: string, turnId: string | undefined): Promise<TurnSnapshot>;
}

export function createTurnReaders(deps: TurnDeps, running: RunningTurns): TurnReaders {
  const followers = createFollowers(deps);
  return {
    async resume(owner, sessionId, turnId, signal) {
      // The record of a turn that has just started is not in the store yet; this instance has its session in memory.
      const started = turnId === undefined ? undefined : running.find(turnId);
      const session = sessionId ?? (started?.owner === owner ? started.sessionId : undefined);
      const located = await locateTurn(deps, owner, session, turnId, signal);
      const local = running.find(located.turnId);
      if (local !== undefined) return toHandle(located, local);
      const { log, done, spans } = followers.follow(located.ref, located.turnId, signal);
      return { ...toNames(located), read: log.read, done, spans };
    },

    async snapshot(owner, sessionId, turnId) {
      const located = await locateTurn(deps, owner, sessionId, turnId);
      // A turn that another instance has ended is in `running` until this instance has read its end.
      const isRunning = located.conversation.turn?.turn_id === located.turnId;
      const local = isRunning ? running.find(located.turnId) : undefined;
      if (local === undefined) {
        // The owner then writes the events every second, so that a client that polls receives them as early as one that
        // follows.
        if (isRunning) void markFollowed(deps, located.snapshot).catch(() => {});
        return snapshotTurn(deps.store, located);
      }
      const { events } = local.log;
      return { ...toNames(located), lease: null, status: 'running', events, usage: undefined, last_event: null };
    },
  };
}

/** The handle of a turn that runs on this instance. */
export function toHandle(located: Pick<LocatedTurn, 'conversation' | 'turnId'>, turn: RunningTurn): TurnHandle {
  return { ...toNames(located), read: turn.log.read, done: turn.done, spans: turn.spans };
}
