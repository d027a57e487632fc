// Follows a turn that runs on another instance, or has ended: fills a log from the store, of the same shape as the log
// of a turn that runs here. The follower also checks whether the owner is alive, and settles the turn if the owner's
// lease has expired.
import { RpcError, toRpcError } from '../../../errors.ts';
import { NewerFormat } from '../../../store/define-document.ts';
import type { Ref } from '../../../store/store.ts';
import { leaveQueue } from '../../admission/queue.ts';
import type { TurnDeps } from '../../deps.ts';
import { createEventLog, type EventLog } from '../../records/event-log.ts';
import { type TurnDocument, type TurnEventsDocument, Turns } from '../../records/turn-documents.ts';
import { settleAbandoned } from '../end/abandoned.ts';
import type { EndedTurn } from '../turn.ts';
import { decodeTurn, readSealed } from '../turn-record.ts';
import { markFollowed } from './mark-followed.ts';

/** How often a follower checks whether the owner is alive. */
const CHECK_MS = 2_000;

/** Ends with the turn, or when `signal` aborts; `done` then rejects with its reason, and the turn continues. */
export function followTurn(
  deps: TurnDeps,
  ref: Ref,
  turnId: string,
  signal: AbortSignal,
): { readonly log: EventLog; readonly done: Promise<EndedTurn> } {
  const { store } = deps;
  const log = createEventLog();
  const sealed: TurnEventsDocument[] = [];
  const ended = Promise.withResolvers<EndedTurn>();
  let seen = false;
  let watching = true;
  let feeding: Promise<void> = Promise.resolve();

  const feed = async (turn: TurnDocument): Promise<void> => {
    sealed.push(...(await readSealed(store, turnId, sealed.length, turn.chunks.length)));
    const known = log.events.at(-1)?.seq ?? 0;
    for (const numbered of decodeTurn(turn, sealed)) if (numbered.seq > known) log.adopt(numbered);
    if (turn.status !== 'running') ended.resolve({ turn, events: log.events });
  };
  const onRecord = (turn: TurnDocument | undefined): void => {
    if (turn === undefined) {
      if (seen) ended.reject(new RpcError('not_found', { message: 'the session was deleted' }));
      return;
    }
    seen = true;
    feeding = feeding.then(() => feed(turn)).catch(onError);
  };
  /** An outage of the store does not end the following: the next check reads again, until the signal aborts. */
  const onError = (error: unknown): void => {
    if (toRpcError(error).reason !== 'unavailable' || error instanceof NewerFormat) ended.reject(error);
  };
  const readRecord = async (): Promise<TurnDocument | undefined> => {
    const [record] = await store.get([Turns.ref(turnId)]);
    return Turns.read(record);
  };
  /** A turn without a record must run or wait in its conversation; the owner of a running turn must be alive. */
  const check = async (): Promise<void> => {
    const [snapshot] = await store.get([ref]);
    const conversation = deps.cache.read(snapshot);
    const turn = conversation?.turn;
    if (turn?.turn_id === turnId) {
      if (deps.owners.ofLease(turn) === 'expired') await settleAbandoned(deps, ref, turn, { reason: 'interrupted' });
      else await markFollowed(deps, snapshot);
      if (watching) return;
      onRecord(await readRecord());
      return;
    }
    const waiting = conversation?.queue.find((entry) => entry.turn_id === turnId);
    if (waiting !== undefined) {
      if (!deps.owners.isWaiting(waiting)) {
        await leaveQueue(deps, ref, (entry) => entry.turn_id === turnId, 'expired');
      }
      return;
    }
    const record = await readRecord();
    if (record === undefined)
      ended.reject(new RpcError('not_found', { message: 'no such turn, or its record has expired' }));
    else onRecord(record);
  };

  const runCheck = (): void => void check().catch(onError);
  // A watch may end permanently, for example in an outage. Then the checks deliver the events, a little later.
  const unwatch = Turns.watch(store, Turns.ref(turnId), onRecord, () => {
    watching = false;
  });
  runCheck();
  const timer = setInterval(runCheck, CHECK_MS);
  const onAbort = (): void => ended.reject(signal.reason);
  if (signal.aborted) onAbort();
  else signal.addEventListener('abort', onAbort, { once: true });

  const done = ended.promise.finally(() => {
    clearInterval(timer);
    signal.removeEventListener('abort', onAbort);
    unwatch();
    log.close();
  });
  done.catch(() => {});
  return { log, done };
}
