// The conversations of all keys, as methods use them. The start of a turn is in admission/, its run and its end in
// turns/, the stored documents in records/.
import { type Clock, createSteadiness, type Ids } from '../clock.ts';
import type { Config } from '../config/config.ts';
import type { Engines } from '../engines/engine.ts';
import { createModelHealth, type ModelHealth } from '../engines/models/model-health.ts';
import type { Logger } from '../log.ts';
import type { Ref, Snapshot, Store } from '../store/store.ts';
import type { Tracer } from '../telemetry/tracer.ts';
import { clearCompanionState, markCompanionState, type SessionName } from './admission/companion-state.ts';
import { type PreparedPrompt, preparePrompt } from './admission/prepare.ts';
import type { TurnDeps } from './deps.ts';
import { deleteSession, eraseGone } from './erase.ts';
import { eraseSessionsOf } from './erase-owner.ts';
import { type ExpiryOptions, eraseExpired } from './expire.ts';
import { type ForkParams, forkSession } from './fork-session.ts';
import { createOwnerWatch, type OwnerState } from './owner-watch.ts';
import { createConversationCache } from './records/conversation-cache.ts';
import { type CompanionState, type ConversationDocument, conversationRef, type Lease } from './records/documents.ts';
import { createHistory, type History } from './records/messages/history.ts';
import { createRetention } from './records/retention.ts';
import type { SessionChanges } from './records/session-fields.ts';
import { createUsageLedger, type UsageLedger } from './records/usage-ledger.ts';
import { settleAbandoned } from './turns/end/abandoned.ts';
import {
  findConversation,
  type ListedPage,
  type ListedSession,
  listConversations,
} from './turns/follow/locate-turn.ts';
import { createTurnReaders, type TurnHandle, type TurnReaders, toHandle } from './turns/follow/turn-readers.ts';
import { createRunningTurns } from './turns/running-turns.ts';
import { type PromptDeps, type PromptParams, startPrompt } from './turns/start-prompt.ts';
import { awaitStop, type CancelOutcome, cancelSession } from './turns/stop-turn.ts';
import { updateSession } from './update-session.ts';

export interface Conversations extends TurnReaders {
  readonly history: History;
  readonly ledger: UsageLedger;
  /** Begins the reads that a prompt of the session needs (undefined: of a new session); never writes. */
  prepare(owner: string, sessionId: string | undefined): PreparedPrompt;
  /** The models that turns of this instance have called. */
  readonly models: Pick<ModelHealth, 'passedOver'>;
  /** Admits the prompt and starts its turn, or finds the turn that has its idempotency key. */
  prompt(params: PromptParams, signal: AbortSignal): Promise<TurnHandle>;
  /** The session's document; undefined when it is missing, another key's, expired or being erased. */
  find(
    owner: string,
    sessionId: string,
  ): Promise<{ readonly ref: Ref; readonly conversation: ConversationDocument } | undefined>;
  /** The document in a snapshot that was read elsewhere; undefined as for `find`. */
  read(snapshot: Snapshot): ConversationDocument | undefined;
  /** Whether the owner of a running turn is alive, by the observations of this instance. */
  ownerState(lease: Lease): OwnerState;
  /**
   * Ends a running turn whose owner no longer renews its lease; no effect when the owner is alive or the turn has
   * ended.
   */
  settleAbandoned(owner: string, sessionId: string, lease: Lease): Promise<void>;
  cancel(owner: string, sessionId: string): Promise<CancelOutcome>;
  /**
   * False when there was nothing to delete. With `canForward`, throws RunsOnCompanion when the session has MCP servers
   * or a terminal, which only companions can end.
   */
  delete(owner: string, sessionId: string, canForward?: boolean): Promise<boolean>;
  /** Records that the session has MCP servers or a terminal (companion-state.ts). */
  markCompanionState(
    session: SessionName,
    state: CompanionState,
    options: { readonly isStarted: boolean },
  ): Promise<void>;
  clearCompanionState(session: SessionName, state: CompanionState): Promise<void>;
  /** Sessions of a key, the most recently used one first. */
  list(owner: string, page: ListedPage): Promise<readonly ListedSession[]>;
  /** Changes a session and returns it; undefined as `find`. */
  update(owner: string, sessionId: string, changes: SessionChanges): Promise<ConversationDocument | undefined>;
  /** Copies a session's messages to a new session (fork-session.ts). */
  fork(params: ForkParams, signal: AbortSignal): Promise<ConversationDocument>;
  /**
   * Erases all sessions of an owner, until `signal` aborts; any call goes on where another stopped. Returns how many
   * there were, and whether nothing of any is left.
   */
  eraseOwner(owner: string, signal: AbortSignal): Promise<{ readonly sessions: number; readonly isDone: boolean }>;
  /** Erases sessions that have expired; a bounded number of them. Returns how many. */
  eraseExpired(options?: ExpiryOptions): Promise<number>;
  /** Lets running turns finish for `graceMs`, then ends them as interrupted. */
  drain(graceMs: number): Promise<void>;
}

export interface ConversationsDeps extends Pick<PromptDeps, 'toolset'> {
  readonly config: Config;
  readonly store: Store;
  readonly engines: Engines;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly log: Logger;
  readonly tracer?: Tracer | undefined;
}

/** The clock must have been steady for this long before expired sessions are erased. */
const STEADY_MS = 600_000;

export function createConversations(given: ConversationsDeps): Conversations {
  const { engines, clock, ids } = given;
  const running = createRunningTurns();
  const closing = new AbortController();
  const isSteady = createSteadiness(clock, STEADY_MS);
  const deps = createTurnDeps(given);
  const { history, ledger, models } = deps;
  const promptDeps: PromptDeps = {
    ...given,
    ...deps,
    closing: closing.signal,
    stopLocal: (turnId, reason) => running.find(turnId)?.stop(reason),
    awaitStop: (ref, lease) => awaitStop(deps, ref, lease, 'replaced'),
    async erase(ref) {
      await eraseGone(deps, ref);
    },
  };
  const readers = createTurnReaders(deps, running);
  const companionDeps = { ...deps, ids, defaultModel: engines.defaultModel, erase: promptDeps.erase };

  return {
    history,
    ledger,
    models,
    find: (owner, sessionId) => findConversation(deps, owner, sessionId),
    read: deps.cache.read,

    prepare: (owner, sessionId) => preparePrompt(deps, { owner, sessionId }),

    async prompt(params, signal) {
      const started = await startPrompt(promptDeps, params);
      if (started.kind === 'duplicate') {
        return readers.resume(params.owner, started.sessionId, started.turnId, signal);
      }
      const { conversation, turn } = started;
      running.add(turn);
      return toHandle({ conversation, turnId: turn.turnId }, turn);
    },

    ...readers,

    ownerState: deps.owners.ofLease,

    settleAbandoned: (owner, sessionId, lease) =>
      settleAbandoned(deps, conversationRef(owner, sessionId), lease, { reason: 'interrupted' }),

    cancel: (owner, sessionId) => cancelSession(deps, conversationRef(owner, sessionId), running),

    delete: (owner, sessionId, canForward = false) => deleteSession(deps, running, { owner, sessionId, canForward }),

    markCompanionState: (session, state, options) => markCompanionState(companionDeps, session, state, options),
    clearCompanionState: (session, state) => clearCompanionState(companionDeps, session, state),

    list: (owner, page) => listConversations(deps, owner, page),
    fork: (params, signal) => forkSession({ ...deps, ids }, params, signal),
    update: (owner, sessionId, changes) => updateSession(deps, conversationRef(owner, sessionId), changes),
    eraseOwner: (owner, signal) => eraseSessionsOf(deps, running, owner, signal),
    eraseExpired: (options) => eraseExpired(deps, isSteady, options),

    async drain(graceMs) {
      closing.abort();
      await running.drain(graceMs);
      await ledger.flush();
    },
  };
}

function createTurnDeps({ config, store, clock, log, tracer }: ConversationsDeps): TurnDeps {
  const retention = createRetention(clock, config.retentionDays);
  return {
    store,
    clock,
    log,
    tracer,
    history: createHistory(store),
    cache: createConversationCache(retention),
    retention,
    ledger: createUsageLedger({ store, clock, log, dailyTokens: config.dailyTokens }),
    owners: createOwnerWatch(clock, config.turns),
    storageBytesMax: config.storageBytesMax,
    turns: config.turns,
    models: createModelHealth(clock),
  };
}
