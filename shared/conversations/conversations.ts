// The conversations of all keys: what the methods call. It knows sessions and turns; the rules are in lease.ts, the parts beside it.
import type { Clock, Ids } from '../clock.ts';
import type { Config } from '../config.ts';
import { contextTokens } from '../engines/context-tokens.ts';
import type { Engines } from '../engines/engine.ts';
import { RpcError } from '../errors.ts';
import type { Logger } from '../log.ts';
import type { Ref, Store } from '../store/store.ts';
import { settleAbandoned } from './abandoned.ts';
import { admitPrompt, hashParams } from './admission.ts';
import { createConversationCache } from './conversation-cache.ts';
import {
  type ConversationDocument,
  conversationRef,
  type TurnDocument,
  type TurnStatus,
  turnRef,
} from './documents.ts';
import { eraseSession, markDeleted } from './erase.ts';
import type { NumberedEvent } from './event-log.ts';
import { followTurn } from './follow-turn.ts';
import { createHistory, type History } from './history.ts';
import { isAbandoned, type OnBusy } from './lease.ts';
import { awaitStop, type CancelOutcome, cancelSession } from './stop-turn.ts';
import { decodeTurn, readSealed } from './turn-record.ts';
import { type EndedTurn, type RunnerParts, type RunningTurn, startTurn } from './turn-runner.ts';
import type { Usage } from './usage.ts';

export interface PromptParams {
  readonly owner: string;
  readonly prompt: string;
  /** A new session is made when absent. */
  readonly sessionId: string | undefined;
  readonly model: string | undefined;
  readonly instructions: string | undefined;
  readonly onBusy: OnBusy;
  readonly idempotencyKey: string | undefined;
}

/** A turn as it stands at one moment. */
export interface TurnSnapshot {
  readonly sessionId: string;
  readonly conversationId: string;
  readonly turnId: string;
  readonly status: TurnStatus;
  readonly events: readonly NumberedEvent[];
  /** Undefined while the turn runs. */
  readonly usage: Usage | undefined;
}

/** A turn to watch: it runs here, runs elsewhere, or has ended. */
export interface TurnHandle {
  readonly sessionId: string;
  readonly conversationId: string;
  readonly turnId: string;
  /** Events after `afterSeq`, then live, until the turn has ended or `signal` aborts. */
  read(afterSeq: number, signal?: AbortSignal): AsyncGenerator<NumberedEvent, void, void>;
  readonly done: Promise<EndedTurn>;
  readonly engineMs: () => number;
}

export interface Conversations {
  readonly history: History;
  /** Admits the prompt and starts its turn, or finds the turn that answers its idempotency key. */
  prompt(params: PromptParams, signal: AbortSignal): Promise<TurnHandle>;
  /** The session's document; undefined when it is missing, another key's, or being erased. */
  find(
    owner: string,
    sessionId: string,
  ): Promise<{ readonly ref: Ref; readonly conversation: ConversationDocument } | undefined>;
  /** A turn of this session; the present or last one when `turnId` is undefined. Throws `not_found`. */
  resume(owner: string, sessionId: string, turnId: string | undefined, signal: AbortSignal): Promise<TurnHandle>;
  /** As `resume`, without following: what is there now. */
  snapshot(owner: string, sessionId: string, turnId: string | undefined): Promise<TurnSnapshot>;
  cancel(owner: string, sessionId: string): Promise<CancelOutcome>;
  /** False when there was nothing to delete. */
  delete(owner: string, sessionId: string): Promise<boolean>;
  /** Sessions of a key, the one used last first. */
  list(
    owner: string,
    after: { readonly value: string; readonly id: string } | undefined,
    limit: number,
  ): Promise<readonly { readonly id: string; readonly conversation: ConversationDocument }[]>;
  /** Lets running turns finish for `graceMs`, then ends them as interrupted. */
  drain(graceMs: number): Promise<void>;
}

export interface ConversationsParts {
  readonly config: Config;
  readonly store: Store;
  readonly engines: Engines;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly log: Logger;
}

export function createConversations({ config, store, engines, clock, ids, log }: ConversationsParts): Conversations {
  const running = new Map<string, RunningTurn>();
  const history = createHistory(store);
  const runner: RunnerParts = {
    store,
    clock,
    log,
    history,
    cache: createConversationCache(),
    turns: config.turns,
  };
  const admission = {
    ...runner,
    ids,
    stopLocal: (turnId: string, reason: 'replaced') => running.get(turnId)?.stop(reason),
    awaitStop: (ref: Ref, lease: NonNullable<ConversationDocument['turn']>) =>
      awaitStop(runner, ref, lease, 'replaced'),
    erase: (ref: Ref) => eraseSession(store, ref),
  };

  const find: Conversations['find'] = async (owner, sessionId) => {
    const ref = conversationRef(owner, sessionId);
    const [snapshot] = await store.get<ConversationDocument>([ref]);
    const conversation = snapshot?.data;
    return conversation === undefined || conversation.deleted ? undefined : { ref, conversation };
  };

  const follow = (ref: Ref, session: SessionNames, turnId: string, signal: AbortSignal): TurnHandle => {
    const local = running.get(turnId);
    if (local !== undefined) return toHandle(session, local);
    const { log: events, done } = followTurn(runner, ref, turnId, signal);
    return { ...session, turnId, read: events.read, done, engineMs: () => 0 };
  };

  /** The turn a caller means, which must be one of its session. */
  const locate = async (owner: string, sessionId: string, turnId: string | undefined) => {
    const found = await find(owner, sessionId);
    if (found === undefined) throw new RpcError('not_found', { message: 'no such session' });
    const { ref, conversation } = found;
    const wanted = turnId ?? conversation.turn?.turn_id ?? conversation.last_turn?.turn_id;
    if (wanted === undefined) throw new RpcError('not_found', { message: 'the session has no turn yet' });
    const known = [conversation.turn, conversation.last_turn, ...conversation.queue];
    if (!known.some((turn) => turn?.turn_id === wanted)) await checkOwn(store, ref, wanted);
    return { ref, conversation, wanted, session: { sessionId, conversationId: conversation.conversation_id } };
  };

  return {
    history,
    find,

    async prompt(params, signal) {
      const { engine, model } = engines.resolve(params.model);
      const { owner, prompt, onBusy, instructions, idempotencyKey } = params;
      const sessionId = params.sessionId ?? ids.next('sess');
      const admitted = await admitPrompt(admission, {
        owner,
        sessionId,
        prompt,
        model,
        onBusy,
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
                }),
              },
      });
      if (admitted.kind === 'duplicate') {
        const { ref, session, wanted } = await locate(owner, admitted.sessionId, admitted.turnId);
        return follow(ref, session, wanted, signal);
      }
      const turn = startTurn(runner, {
        ...admitted,
        engine,
        instructions,
        budgetTokens: contextTokens(model) - Math.ceil(Buffer.byteLength(instructions ?? '') / 3),
      });
      running.set(turn.turnId, turn);
      turn.done.catch(() => {}).finally(() => running.delete(turn.turnId));
      return toHandle({ sessionId, conversationId: admitted.conversation.conversation_id }, turn);
    },

    async resume(owner, sessionId, turnId, signal) {
      const { ref, session, wanted } = await locate(owner, sessionId, turnId);
      return follow(ref, session, wanted, signal);
    },

    async snapshot(owner, sessionId, turnId) {
      const { ref, conversation, session, wanted } = await locate(owner, sessionId, turnId);
      const local = running.get(wanted);
      if (local !== undefined) {
        return { ...session, turnId: wanted, status: 'running', events: local.log.events, usage: undefined };
      }
      const { turn } = conversation;
      if (turn?.turn_id === wanted && isAbandoned(turn, clock.now())) {
        await settleAbandoned(runner, ref, turn, { reason: 'interrupted' });
      }
      const [record] = await store.get<TurnDocument>([turnRef(wanted)]);
      const data = record?.data;
      if (data === undefined) return { ...session, turnId: wanted, status: 'running', events: [], usage: undefined };
      const sealed = await readSealed(store, wanted, 0, data.chunks.length);
      return {
        ...session,
        turnId: wanted,
        status: data.status,
        events: decodeTurn(data, sealed),
        usage: data.status === 'running' ? undefined : data.usage,
      };
    },

    cancel: (owner, sessionId) => cancelSession(runner, conversationRef(owner, sessionId), running),

    async delete(owner, sessionId) {
      const ref = conversationRef(owner, sessionId);
      const turnId = await markDeleted(store, ref, clock);
      if (turnId === undefined) return false;
      runner.cache.set(ref, undefined);
      if (turnId !== null) {
        running.get(turnId)?.stop('cancelled');
        await running.get(turnId)?.done.catch(() => {});
      }
      await eraseSession(store, ref);
      return true;
    },

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
      const turns = [...running.values()];
      const timer = setTimeout(() => {
        for (const turn of turns) turn.stop('interrupted');
      }, graceMs);
      await Promise.allSettled(turns.map((turn) => turn.done));
      clearTimeout(timer);
    },
  };
}

interface SessionNames {
  readonly sessionId: string;
  readonly conversationId: string;
}

function toHandle({ sessionId, conversationId }: SessionNames, turn: RunningTurn): TurnHandle {
  return {
    sessionId,
    conversationId,
    turnId: turn.turnId,
    read: turn.log.read,
    done: turn.done,
    engineMs: turn.engineMs,
  };
}

/** A turn id is unguessable, yet only its own session may show it. */
async function checkOwn(store: Store, ref: Ref, turnId: string): Promise<void> {
  const [record] = await store.get<TurnDocument>([turnRef(turnId)]);
  if (record?.data?.conversation === ref.id) return;
  throw new RpcError('not_found', { message: 'no such turn in this session, or its record has expired' });
}
