// The three commits of the outbox: record, claim and mark sent. They ensure that no acknowledged event is lost. The
// caller publishes the event; an expired claim can be taken by another publisher.
import type { CallOptions, Ref, Snapshot, Store } from '../store/store.ts';
import { type Decision, transact } from '../store/transact.ts';
import {
  type EventDocument,
  Events,
  eventWrite,
  fromDocument,
  Outbox,
  type OutboxDocument,
  outboxWrite,
  toDocument,
} from './documents.ts';
import type { GatewayEvent } from './event.ts';

/**
 * Duration of a claim: only the instance that recorded or claimed the event may publish it. Longer than the sum of its
 * deadlines.
 */
export const CLAIM_MS = 30_000;
/** Longest pause between two attempts to publish the same event. */
const BACKOFF_MS_MAX = 5 * 60_000;
const STORE_TIMEOUT_MS = 5_000;
/** A longer claim was written by a wrong clock and is ignored: the event may be published twice, but is not lost. */
const CLAIM_MS_MAX = BACKOFF_MS_MAX + CLAIM_MS;

/**
 * An event that the caller of `record` or `claim` must publish, and the snapshots with which `markSent` needs no read.
 */
export interface Claimed {
  readonly kind: 'claimed';
  readonly event: GatewayEvent;
  readonly snapshots: readonly Snapshot[];
}

/** `sent`: already published. `held`: recorded, and claimed by another publisher until its claim expires. */
export type Recorded =
  | (Claimed & { readonly duplicate: boolean })
  | { readonly kind: 'sent'; readonly messageId: string }
  | { readonly kind: 'held' };

type Verdict =
  | { readonly kind: 'new' }
  | { readonly kind: 'retaken'; readonly stored: EventDocument }
  | Exclude<Recorded, Claimed>;

/**
 * Records an event once, with its outbox entry, in one commit; a delivery that is new costs no read. If a repeated
 * delivery finds an expired claim, it takes the claim. Throws RpcError `unavailable`.
 */
export async function record(store: Store, event: GatewayEvent, nowMs: number): Promise<Recorded> {
  const refs = refsOf(event.id);
  const { result, snapshots } = await transact(
    store,
    refs,
    (read): Decision<Verdict> => {
      const stored = Events.read(read[0]);
      if (stored === undefined) {
        const document = toDocument(event);
        const entry = {
          ordering_key: event.orderingKey,
          created_at_ms: event.recordedAtMs,
          due_at_ms: nowMs + CLAIM_MS,
          attempts: 1,
        };
        return { writes: [eventWrite(event.id, document), outboxWrite(event.id, entry)], result: { kind: 'new' } };
      }
      if (stored.state === 'sent') return { writes: [], result: { kind: 'sent', messageId: stored.message_id ?? '' } };
      const entry = Outbox.read(read[1]);
      if (entry !== undefined && !isDue(entry, nowMs)) return { writes: [], result: { kind: 'held' } };
      const taken = retaken(entry, stored, nowMs);
      return { writes: [outboxWrite(event.id, taken)], result: { kind: 'retaken', stored } };
    },
    { timeoutMs: STORE_TIMEOUT_MS, cached: refs.map((ref) => ({ ref, data: undefined, version: null })) },
  );
  if (result.kind === 'new') return { kind: 'claimed', event, snapshots, duplicate: false };
  if (result.kind !== 'retaken') return result;
  return { kind: 'claimed', event: fromDocument(event.id, result.stored), snapshots, duplicate: true };
}

/**
 * Takes the claim on an outbox entry that is due. `undefined`: published or claimed by another instance meanwhile.
 * `lost`: the event expired after 30 days without being published; the entry is removed.
 */
export async function claim(
  store: Store,
  id: string,
  nowMs: number,
  options: CallOptions & { readonly claimMs?: number } = {},
): Promise<Claimed | 'lost' | undefined> {
  const { result, snapshots } = await transact(
    store,
    refsOf(id),
    (read): Decision<EventDocument | 'lost' | undefined> => {
      const entry = Outbox.read(read[1]);
      if (entry === undefined || !isDue(entry, nowMs)) return { writes: [], result: undefined };
      const stored = Events.read(read[0]);
      if (stored === undefined) return { writes: [{ ref: Outbox.ref(id), delete: true }], result: 'lost' };
      return { writes: [outboxWrite(id, retaken(entry, stored, nowMs, options.claimMs))], result: stored };
    },
    { timeoutMs: STORE_TIMEOUT_MS, ...(options.signal === undefined ? {} : { signal: options.signal }) },
  );
  if (result === undefined || result === 'lost') return result;
  return { kind: 'claimed', event: fromDocument(id, result), snapshots };
}

/**
 * Marks a claimed event as published and removes it from the outbox. One commit without a read, unless another instance
 * has changed the documents.
 */
export async function markSent(store: Store, claimed: Claimed, messageId: string): Promise<void> {
  const { id } = claimed.event;
  await transact(
    store,
    refsOf(id),
    (read) => {
      const stored = Events.read(read[0]);
      const remove = { ref: Outbox.ref(id), delete: true } as const;
      const entryGone = read[1]?.version === null;
      if (stored === undefined || stored.state === 'sent')
        return { writes: entryGone ? [] : [remove], result: undefined };
      const sent: EventDocument = { ...stored, state: 'sent', message_id: messageId };
      return { writes: [eventWrite(id, sent), ...(entryGone ? [] : [remove])], result: undefined };
    },
    { timeoutMs: STORE_TIMEOUT_MS, cached: claimed.snapshots },
  );
}

/**
 * Entries without a valid claim: the longest due first, then those whose time a wrong clock has set far ahead. Entries
 * in a newer format are skipped; newer instances publish them.
 */
export async function dueEntries(
  store: Store,
  nowMs: number,
  limit: number,
  options: CallOptions = {},
): Promise<{ readonly id: string; readonly entry: OutboxDocument }[]> {
  const query = Outbox.query({ orderBy: 'due_at_ms', limit });
  const found = await store.query(query, { timeoutMs: STORE_TIMEOUT_MS, ...options });
  return found.flatMap((snapshot) => {
    const entry = Outbox.readKnown(snapshot);
    return entry === undefined || !isDue(entry, nowMs) ? [] : [{ id: snapshot.ref.id, entry }];
  });
}

function isDue({ due_at_ms }: OutboxDocument, nowMs: number): boolean {
  return due_at_ms <= nowMs || due_at_ms > nowMs + CLAIM_MS_MAX;
}

function refsOf(id: string): readonly [Ref, Ref] {
  return [Events.ref(id), Outbox.ref(id)];
}

/** The entry with a new claim; its duration grows with every attempt. */
function retaken(
  entry: OutboxDocument | undefined,
  stored: EventDocument,
  nowMs: number,
  claimMs = CLAIM_MS,
): OutboxDocument {
  const attempts = entry?.attempts ?? 0;
  const pauseMs = Math.min(claimMs * 2 ** Math.min(attempts, 10), Math.max(claimMs, BACKOFF_MS_MAX));
  return {
    ...entry,
    ordering_key: stored.ordering_key,
    created_at_ms: entry?.created_at_ms ?? stored.received_at_ms,
    due_at_ms: nowMs + pauseMs,
    attempts: attempts + 1,
  };
}
