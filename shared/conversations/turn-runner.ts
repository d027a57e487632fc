// Runs one admitted turn on this instance: engine -> log, with lease, heartbeat, flushes and the one commit that settles it. A client
// that goes away does not stop it; a stop request, the deadline and the loss of the lease do.
import { setTimeout as sleep } from 'node:timers/promises';
import type { Clock } from '../clock.ts';
import type { Config } from '../config.ts';
import type { Engine, TurnInput } from '../engines/engine.ts';
import { RpcError, toRpcError } from '../errors.ts';
import { errorFields, type Logger } from '../log.ts';
import { Conflict, type Ref, type Store, type Write } from '../store/store.ts';
import { transact } from '../store/transact.ts';
import type { ConversationCache } from './conversation-cache.ts';
import { type AbortReason, type ConversationDocument, type Lease, type TurnDocument, turnRef } from './documents.ts';
import { createEventLog, type EventLog, type NumberedEvent } from './event-log.ts';
import { appendMessage, type Context, type History } from './history.ts';
import { renew, settle } from './lease.ts';
import { createTurnRecord, decodeTurn, readSealed, type TurnEnd, type TurnFacts } from './turn-record.ts';
import { NO_USAGE } from './usage.ts';

/** Events reach the store at most this late; one write per second and document is Firestore's guideline. */
const FLUSH_MS = 1_000;
/** Short turns never pay for a watch; a stop request that comes earlier is seen when the watch starts. */
const WATCH_AFTER_MS = 100;
/** Longer deltas are cut, so that no event outgrows its chunk document. */
const DELTA_CHARS_MAX = 16 << 10;
const SETTLE_RETRY_MS = 500;

export interface RunnerParts {
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Logger;
  readonly history: History;
  readonly cache: ConversationCache;
  readonly turns: Config['turns'];
}

export interface AdmittedTurn {
  readonly ref: Ref;
  readonly conversation: ConversationDocument;
  readonly lease: Lease;
  readonly engine: Engine;
  readonly instructions: string | undefined;
  readonly budgetTokens: number;
  /** Idempotency record to withdraw when the turn fails, so that a retry under the same key runs again. */
  readonly idempotencyRef: Ref | undefined;
}

/** How a turn ended, as stored: the same object for the caller who waited and for everybody who asks later. */
export interface EndedTurn {
  readonly turn: TurnDocument;
  readonly events: readonly NumberedEvent[];
}

export interface RunningTurn {
  readonly turnId: string;
  readonly log: EventLog;
  /** Rejects only when the store could not be reached to settle the turn. */
  readonly done: Promise<EndedTurn>;
  /** Milliseconds spent in the engine so far. */
  readonly engineMs: () => number;
  stop(reason: AbortReason): void;
}

/** The lease is not ours any more: somebody else has ended the turn. */
class Fenced extends Error {}

export function startTurn(parts: RunnerParts, admitted: AdmittedTurn): RunningTurn {
  const { store, clock, history, cache, turns } = parts;
  const { ref, lease, conversation } = admitted;
  const log = createEventLog();
  const facts: TurnFacts = {
    conversation: ref.id,
    sessionId: conversation.session_id,
    conversationId: conversation.conversation_id,
    lease,
  };
  const record = createTurnRecord(facts);
  const controller = new AbortController();
  let stopped: AbortReason | undefined;
  let flushing: Promise<void> = Promise.resolve();
  let flushTimer: NodeJS.Timeout | undefined;
  let unwatch: (() => void) | undefined;
  let engineMs = 0;
  let text = '';

  const stop = (reason: AbortReason): void => {
    stopped ??= reason;
    controller.abort(new RpcError('cancelled', { data: { reason: stopped } }));
  };
  const lose = (): void => controller.abort(new Fenced('the lease of the turn is lost'));

  const heartbeat = setInterval(() => {
    beat().catch((error: unknown) =>
      parts.log.log('WARNING', 'turn heartbeat failed', { turn_id: lease.turn_id, ...errorFields(error) }),
    );
  }, turns.heartbeatMs);
  const deadline = setTimeout(() => {
    controller.abort(new RpcError('upstream_timeout', { data: { timeout_ms: turns.timeoutMs } }));
  }, turns.timeoutMs);
  const watcher = setTimeout(() => {
    unwatch = store.watch<ConversationDocument>(
      ref,
      (snapshot) => inspect(snapshot.data),
      (error) => {
        parts.log.log('WARNING', 'turn watch failed, the heartbeat goes on', {
          turn_id: lease.turn_id,
          ...errorFields(error),
        });
      },
    );
  }, WATCH_AFTER_MS);

  const done = run().finally(() => {
    clearInterval(heartbeat);
    clearTimeout(deadline);
    clearTimeout(watcher);
    clearTimeout(flushTimer);
    unwatch?.();
    log.close();
  });
  // Whoever waits handles it; when nobody does, the failure has been logged already.
  done.catch(() => {});
  return { turnId: lease.turn_id, log, done, engineMs: () => engineMs, stop };

  async function run(): Promise<EndedTurn> {
    let end: TurnEnd;
    try {
      const context = await history.context(ref.id, conversation, admitted.budgetTokens);
      const usage = await runEngine(context);
      end = { status: 'completed', usage, nowMs: clock.now(), failure: null };
    } catch (error) {
      end = endOf(error);
    }
    clearTimeout(flushTimer);
    await flushing;
    return settleTurn(end);
  }

  async function runEngine(context: Context): Promise<TurnEnd['usage']> {
    append({
      TaskStarted: {
        turn_id: lease.turn_id,
        model: lease.model,
        started_at: lease.started_at,
        context: { messages: context.messages.length, trimmed: context.trimmed },
      },
    });
    const input: TurnInput = {
      turnId: lease.turn_id,
      conversationId: conversation.conversation_id,
      model: lease.model,
      messages: context.messages,
      ...(admitted.instructions === undefined ? {} : { instructions: admitted.instructions }),
    };
    const startedMs = performance.now();
    try {
      controller.signal.throwIfAborted();
      const generator = admitted.engine.run(input, { signal: controller.signal });
      for (;;) {
        const step = await generator.next();
        if (step.done) return step.value.usage;
        if ('AgentMessageDelta' in step.value) {
          const { delta } = step.value.AgentMessageDelta;
          text += delta;
          for (const piece of pieces(delta)) append({ AgentMessageDelta: { delta: piece } });
        } else append(step.value);
      }
    } finally {
      engineMs = performance.now() - startedMs;
    }
  }

  function append(event: NumberedEvent['event']): void {
    log.append(event);
    flushTimer ??= setTimeout(() => {
      flushing = flush().finally(() => {
        flushTimer = undefined;
      });
    }, FLUSH_MS);
  }

  /** Brings the store up to the log. A conflict with our own, unconfirmed write is told apart from a lost lease by what is stored. */
  async function flush(): Promise<void> {
    try {
      const writes = record.writes(log.events, undefined, clock.now());
      record.flushed((await store.commit(writes))[0]);
    } catch (error) {
      if (error instanceof Conflict) {
        const [stored] = await store.get<TurnDocument>([turnRef(lease.turn_id)]).catch(() => []);
        if (stored?.data !== undefined && stored.data.status !== 'running') lose();
        else record.flushed(stored?.version);
      } else
        parts.log.log('WARNING', 'turn events not flushed, will be with the next', {
          turn_id: lease.turn_id,
          ...errorFields(error),
        });
    }
  }

  function inspect(data: ConversationDocument | undefined): void {
    if (data?.turn?.epoch !== lease.epoch) lose();
    else if (data.turn.stop !== null) stop(data.turn.stop);
  }

  async function beat(): Promise<void> {
    const { result, snapshots } = await transact(
      store,
      [ref],
      ([snapshot]) => {
        const current = cache.read(snapshot);
        const renewed = current && renew(current, lease.epoch, clock.now() + turns.leaseMs);
        return { writes: renewed === undefined ? [] : [{ ref, data: renewed }], result: renewed };
      },
      { cached: cache.get(ref) },
    );
    cache.set(ref, snapshots[0]);
    inspect(result);
  }

  function endOf(error: unknown): TurnEnd {
    const nowMs = clock.now();
    if (stopped !== undefined) {
      return { status: stopped === 'interrupted' ? 'interrupted' : 'cancelled', usage: NO_USAGE, nowMs, failure: null };
    }
    const cause: unknown = controller.signal.aborted ? controller.signal.reason : error;
    const failure = toRpcError(cause);
    if (failure.reason === 'internal' && !(cause instanceof Fenced)) {
      parts.log.log('ERROR', 'turn failed', { turn_id: lease.turn_id, ...errorFields(failure.cause) });
    }
    return {
      status: 'failed',
      usage: NO_USAGE,
      nowMs,
      failure: {
        reason: failure.reason,
        message: failure.message,
        data: JSON.stringify(failure.data),
        retryable: failure.retryable,
        retry_after_ms: failure.retryAfterMs ?? null,
      },
    };
  }

  async function settleTurn(end: TurnEnd): Promise<EndedTurn> {
    const answered = await withAnswer(end);
    for (const giveUpAtMs = clock.now() + turns.leaseMs; ; ) {
      try {
        return await commitEnd(end, answered);
      } catch (error) {
        if (toRpcError(error).reason !== 'unavailable' || clock.now() >= giveUpAtMs) {
          parts.log.log('ERROR', 'turn could not be settled; its lease will expire', {
            turn_id: lease.turn_id,
            ...errorFields(error),
          });
          throw error;
        }
        await sleep(SETTLE_RETRY_MS * (0.5 + Math.random()));
      }
    }
  }

  /** The messages with the answer, or what there is of it, added. Nobody else changes them while the lease is ours. */
  async function withAnswer(end: TurnEnd): Promise<{ conversation: ConversationDocument; writes: readonly Write[] }> {
    if (text === '') return { conversation, writes: [] };
    const now = new Date(end.nowMs).toISOString();
    const added = appendMessage(ref, conversation, {
      role: 'assistant',
      text,
      turnId: lease.turn_id,
      now,
      partial: end.status !== 'completed',
    });
    const compacted = await history.compact(ref.id, added.conversation);
    return { conversation: compacted.conversation, writes: [...added.writes, ...compacted.writes] };
  }

  async function commitEnd(
    wanted: TurnEnd,
    answered: { conversation: ConversationDocument; writes: readonly Write[] },
  ): Promise<EndedTurn> {
    const { result, snapshots } = await transact(
      store,
      [ref],
      ([snapshot]) => {
        const current = cache.read(snapshot);
        if (current?.turn?.epoch !== lease.epoch) return { writes: [], result: undefined };
        // A stop that was acknowledged before this commit wins: its caller has been told.
        const end: TurnEnd =
          current.turn.stop !== null && wanted.status === 'completed' ? { ...wanted, status: 'cancelled' } : wanted;
        const reason: AbortReason = current.turn.stop ?? stopped ?? 'cancelled';
        const events = [...log.events, ...terminalEvents(end, reason, lease.turn_id, text, log.events.length)];
        const writes = record.writes(events, end, end.nowMs);
        const { recent, chunks, message_count } = answered.conversation;
        const next = settle(
          { ...current, recent: markPartial(recent, lease.turn_id, end), chunks, message_count },
          { status: end.status, usage: end.usage, now: new Date(end.nowMs).toISOString() },
        );
        const withdrawn = end.status === 'failed' || end.status === 'interrupted' ? admitted.idempotencyRef : undefined;
        return {
          writes: [
            { ref, data: next },
            ...writes,
            ...answered.writes,
            ...(withdrawn === undefined ? [] : [{ ref: withdrawn, delete: true as const }]),
          ],
          result: { turn: writes[0], events },
        };
      },
      { cached: cache.get(ref) },
    );
    cache.set(ref, snapshots[0]);
    if (result !== undefined && 'data' in result.turn) {
      for (const numbered of result.events.slice(log.events.length)) log.adopt(numbered);
      return { turn: result.turn.data as TurnDocument, events: log.events };
    }
    return adoptEnd();
  }

  /** Somebody else (or an unconfirmed commit of ours) has ended the turn: what is stored is how it ended. */
  async function adoptEnd(): Promise<EndedTurn> {
    const [snapshot] = await store.get<TurnDocument>([turnRef(lease.turn_id)]);
    const turn = snapshot?.data;
    if (turn === undefined || turn.status === 'running') {
      throw new RpcError('cancelled', { message: 'the session was deleted while the turn ran' });
    }
    const known = log.events.at(-1)?.seq ?? 0;
    const stored = decodeTurn(turn, await readSealed(store, lease.turn_id, 0, turn.chunks.length));
    for (const numbered of stored) if (numbered.seq > known) log.adopt(numbered);
    return { turn, events: log.events };
  }
}

/** The events that end a turn, numbered after the `count` events before them. */
function terminalEvents(
  end: TurnEnd,
  reason: AbortReason,
  turnId: string,
  text: string,
  count: number,
): NumberedEvent[] {
  if (end.status === 'completed') {
    return [
      { seq: count + 1, event: { AgentMessage: { message: text } } },
      { seq: count + 2, event: { TaskComplete: { turn_id: turnId, usage: end.usage } } },
    ];
  }
  if (end.failure !== null) {
    const { reason: failed, message } = end.failure;
    return [{ seq: count + 1, event: { Error: { turn_id: turnId, reason: failed, message } } }];
  }
  return [{ seq: count + 1, event: { TurnAborted: { turn_id: turnId, reason } } }];
}

function markPartial(
  recent: ConversationDocument['recent'],
  turnId: string,
  end: TurnEnd,
): ConversationDocument['recent'] {
  const partial = end.status !== 'completed';
  return recent.map((message) =>
    message.role === 'assistant' && message.turn_id === turnId && message.partial !== partial
      ? { ...message, partial }
      : message,
  );
}

function* pieces(delta: string): Generator<string> {
  for (let start = 0; start < delta.length; ) {
    let end = Math.min(start + DELTA_CHARS_MAX, delta.length);
    const last = delta.charCodeAt(end - 1);
    if (end < delta.length && last >= 0xd800 && last <= 0xdbff) end--;
    yield delta.slice(start, end);
    start = end;
  }
}
