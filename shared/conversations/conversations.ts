// The conversations of all keys: what the methods call. It knows sessions and turns; the rules are in lease.ts, the
// parts beside it.
import type { Clock, Ids } from '../clock.ts';
import type { Config } from '../config/config.ts';
import { contextTokens } from '../engines/direct/context-tokens.ts';
import type { Credential, Engines, Toolset } from '../engines/engine.ts';
import { fitToolset } from '../engines/tools/fit-tools.ts';
import { toRpcError } from '../errors.ts';
import { boundTokens } from '../estimate-tokens.ts';
import type { Logger } from '../log.ts';
import type { Ref, Store } from '../store/store.ts';
import type { Span } from '../timings.ts';
import { NO_USAGE } from '../usage.ts';
import { admitPrompt, hashParams } from './admission/admission.ts';
import { hold, release, type SessionName } from './admission/companion-mark.ts';
import type { TurnDeps } from './deps.ts';
import { eraseSession, markDeleted } from './erase.ts';
import { createOwnerWatch, type Standing } from './owner-watch.ts';
import { createConversationCache } from './records/conversation-cache.ts';
import { type ConversationDocument, conversationRef, type Held, type Lease } from './records/documents.ts';
import type { NumberedEvent } from './records/event-log.ts';
import { createHistory, type History } from './records/history.ts';
import { createUsageLedger, type UsageLedger } from './records/usage-ledger.ts';
import { settleAbandoned } from './turns/abandoned.ts';
import { followTurn } from './turns/follow-turn.ts';
import type { OnBusy } from './turns/lease.ts';
import {
  findConversation,
  type LocatedTurn,
  locateTurn,
  snapshotTurn,
  type TurnSnapshot,
  toNames,
} from './turns/locate-turn.ts';
import { createRunningTurns } from './turns/running-turns.ts';
import { awaitStop, type CancelOutcome, cancelSession } from './turns/stop-turn.ts';
import { type EndedTurn, type RunningTurn, startTurn } from './turns/turn-runner.ts';

/** Most that a caller without a stream waits for a provider's Retry-After. */
const UNSEEN_WAIT_MS_MAX = 10_000;

export interface PromptParams {
  readonly owner: string;
  readonly prompt: string;
  /** A new session is made when absent. */
  readonly sessionId: string | undefined;
  readonly model: string | undefined;
  readonly instructions: string | undefined;
  readonly onBusy: OnBusy;
  readonly idempotencyKey: string | undefined;
  /** The call can go to the companion: it does, as NeedsCompanion, when that holds the session's tools. */
  readonly canForward?: boolean;
  /**
   * The caller sees the turn's events; without them it does not wait long for a provider that asks to be called later.
   */
  readonly isStreamed?: boolean;
  /** The caller's own account, and the login it comes from. */
  readonly login?: { readonly sessionId: string; readonly credential: Credential } | undefined;
}

/** A turn to watch: it runs here, runs elsewhere, or has ended. */
export interface TurnHandle {
  readonly sessionId: string;
  readonly conversationId: string;
  readonly turnId: string;
  /** Events after `afterSeq`, then live, until the turn has ended or `signal` aborts. */
  read(afterSeq: number, signal?: AbortSignal): AsyncGenerator<NumberedEvent, void, void>;
  readonly done: Promise<EndedTurn>;
  /** Where the time of the turn goes, as far as this call waits for it; complete when `done`. */
  readonly spans: readonly Span[];
}

export interface Conversations {
  readonly history: History;
  readonly ledger: UsageLedger;
  /** Admits the prompt and starts its turn, or finds the turn that answers its idempotency key. */
  prompt(params: PromptParams, signal: AbortSignal): Promise<TurnHandle>;
  /** The session's document; undefined when it is missing, another key's, or being erased. */
  find(
    owner: string,
    sessionId: string,
  ): Promise<{ readonly ref: Ref; readonly conversation: ConversationDocument } | undefined>;
  /** A turn to follow (locateTurn says which). Throws `not_found`. */
  resume(
    owner: string,
    sessionId: string | undefined,
    turnId: string | undefined,
    signal: AbortSignal,
  ): Promise<TurnHandle>;
  /** Whether the owner of a running turn is alive, as far as this instance knows. */
  standing(lease: Lease): Standing;
  /** Ends the running turn whose owner is gone; no effect when the owner is alive or the turn has ended. */
  settleAbandoned(owner: string, sessionId: string, lease: Lease): Promise<void>;
  /** As `resume`, without following: the stored state. Only reads. */
  snapshot(owner: string, sessionId: string, turnId: string | undefined): Promise<TurnSnapshot>;
  cancel(owner: string, sessionId: string): Promise<CancelOutcome>;
  /**
   * False when there was nothing to delete. Throws NeedsCompanion when that holds something of the session and
   * `canForward`.
   */
  delete(owner: string, sessionId: string, canForward?: boolean): Promise<boolean>;
  /** Notes that this instance holds something for the session (companion-mark.ts). */
  hold(session: SessionName, held: Held, options: { readonly isStarted: boolean }): Promise<void>;
  release(session: SessionName, held: Held): Promise<void>;
  /** Sessions of a key, the one used last first. */
  list(
    owner: string,
    after: { readonly value: string; readonly id: string } | undefined,
    limit: number,
  ): Promise<readonly { readonly id: string; readonly conversation: ConversationDocument }[]>;
  /** Lets running turns finish for `graceMs`, then ends them as interrupted. */
  drain(graceMs: number): Promise<void>;
}

export interface ConversationsDeps {
  readonly config: Config;
  readonly store: Store;
  readonly engines: Engines;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly log: Logger;
  /** The tools that prompts of a session may use. */
  readonly toolset?: (owner: string, sessionId: string) => Toolset | undefined;
  /** Waits, for a bounded time, for changes of these tools that their servers have announced. */
  readonly toolsReady?: (owner: string, sessionId: string) => Promise<void>;
}

export function createConversations({
  config,
  store,
  engines,
  clock,
  ids,
  log,
  toolset,
  toolsReady,
}: ConversationsDeps): Conversations {
  const running = createRunningTurns();
  const history = createHistory(store);
  const ledger = createUsageLedger({ store, clock, log, dailyTokens: config.dailyTokens });
  const closing = new AbortController();
  const runner: TurnDeps = {
    store,
    clock,
    log,
    history,
    cache: createConversationCache(),
    ledger,
    owners: createOwnerWatch(clock, config.turns),
    storageBytesMax: config.storageBytesMax,
    turns: config.turns,
  };
  const marks = { store, cache: runner.cache, clock, ids, defaultModel: engines.defaultModel };
  const admission = {
    ...runner,
    ids,
    closing: closing.signal,
    stopLocal: (turnId: string, reason: 'replaced') => running.find(turnId)?.stop(reason),
    awaitStop: (ref: Ref, lease: NonNullable<ConversationDocument['turn']>) =>
      awaitStop(runner, ref, lease, 'replaced'),
    erase: (ref: Ref) => eraseSession(store, ref),
  };

  const follow = (located: LocatedTurn, signal: AbortSignal): TurnHandle => {
    const local = running.find(located.turnId);
    if (local !== undefined) return toHandle(located, local);
    const { log: events, done, spans } = followTurn(runner, located.ref, located.turnId, signal);
    return { ...toNames(located), read: events.read, done, spans };
  };

  return {
    history,
    ledger,
    find: (owner, sessionId) => findConversation(store, owner, sessionId),

    async prompt(params, signal) {
      const { engine, model } = engines.resolve(params.model, params.login?.credential);
      const { owner, prompt, onBusy, instructions, idempotencyKey } = params;
      const sessionId = params.sessionId ?? ids.next('sess');
      const startMs = performance.now();
      if (params.sessionId !== undefined) await toolsReady?.(owner, sessionId);
      const spent = await ledger.admit(owner).then(() => undefined, toRpcError);
      // An answer that was paid for is returned again, however little is left.
      if (spent !== undefined && idempotencyKey === undefined) throw spent;
      const admitted = await admitPrompt(admission, {
        owner,
        sessionId,
        isNew: params.sessionId === undefined,
        prompt,
        model,
        onBusy,
        canForward: params.canForward === true,
        hasTools: (session) => toolset?.(owner, session) !== undefined,
        refusal: spent,
        idempotency:
          idempotencyKey === undefined
            ? undefined
            : {
                key: idempotencyKey,
                paramsHash: hashParams({
                  prompt,
                  model: params.model,
                  instructions,
                  session_id: params.sessionId,
                  onBusy,
                  auth_session_id: params.login?.sessionId,
                }),
              },
      });
      if (admitted.kind === 'duplicate') {
        return follow(await locateTurn(store, owner, admitted.sessionId, admitted.turnId), signal);
      }
      const tools = fitToolset(toolset?.(owner, admitted.conversation.session_id), model);
      const besideChars = Buffer.byteLength(instructions ?? '') + (tools?.chars ?? 0);
      const turn = startTurn(runner, {
        ...admitted,
        engine,
        instructions,
        credential: params.login?.credential,
        retryWaitMsMax: params.isStreamed === false ? UNSEEN_WAIT_MS_MAX : undefined,
        tools,
        budgetTokens: budgetOf(admitted.conversation, model, config.models) - boundTokens(besideChars),
        spans: [{ phase: 'admission', startMs, endMs: performance.now() }],
      });
      running.add(turn);
      return toHandle({ conversation: admitted.conversation, turnId: turn.turnId }, turn);
    },

    async resume(owner, sessionId, turnId, signal) {
      // A turn that began a moment ago is on record only here.
      const session = sessionId ?? (turnId === undefined ? undefined : running.find(turnId)?.sessionId);
      return follow(await locateTurn(store, owner, session, turnId), signal);
    },

    standing: runner.owners.ofLease,

    settleAbandoned: (owner, sessionId, lease) =>
      settleAbandoned(runner, conversationRef(owner, sessionId), lease, { reason: 'interrupted' }),

    async snapshot(owner, sessionId, turnId) {
      const located = await locateTurn(store, owner, sessionId, turnId);
      const local = running.find(located.turnId);
      // A turn that another instance ended runs on here until this instance notices.
      const isOurs = located.conversation.turn?.turn_id === located.turnId;
      if (local === undefined || !isOurs) return snapshotTurn(store, located);
      const { events } = local.log;
      return { ...toNames(located), lease: null, status: 'running', events, usage: undefined, last_event: null };
    },

    cancel: (owner, sessionId) => cancelSession(runner, conversationRef(owner, sessionId), running),

    async delete(owner, sessionId, canForward = false) {
      const ref = conversationRef(owner, sessionId);
      const marked = await markDeleted(store, ref, clock, canForward);
      if (marked === undefined) return false;
      const { lease, freedBytes } = marked;
      ledger.add(owner, NO_USAGE, -freedBytes);
      runner.cache.set(ref, undefined);
      const local = lease === null ? undefined : running.find(lease.turn_id);
      local?.stop('cancelled');
      await local?.done.catch(() => {});
      await eraseSession(store, ref);
      return true;
    },

    hold: (session, held, { isStarted }) => hold(marks, session, held, isStarted),
    release: (session, held) => release(marks, session, held),

    async list(owner, after, limit) {
      const snapshots = await store.query<ConversationDocument>({
        collection: 'conversations',
        where: { owner },
        orderBy: 'updated_at',
        direction: 'desc',
        limit,
        ...(after && { after }),
      });
      return snapshots.flatMap(({ ref, data }) => (data === undefined ? [] : [{ id: ref.id, conversation: data }]));
    },

    async drain(graceMs) {
      closing.abort();
      const turns = running.all();
      const timer = setTimeout(() => {
        for (const turn of turns) turn.stop('interrupted');
      }, graceMs);
      await Promise.allSettled(turns.map((turn) => turn.done));
      clearTimeout(timer);
      await ledger.flush();
    },
  };
}

/** The table's or the operator's figure, or less where the provider has refused it for this conversation. */
function budgetOf({ budgets = [] }: ConversationDocument, model: string, models: Config['models']): number {
  const known = budgets.find((budget) => budget.model === model)?.tokens ?? Number.POSITIVE_INFINITY;
  return Math.min(contextTokens(model, models), known);
}

function toHandle(located: Pick<LocatedTurn, 'conversation' | 'turnId'>, turn: RunningTurn): TurnHandle {
  return { ...toNames(located), read: turn.log.read, done: turn.done, spans: turn.spans };
}
