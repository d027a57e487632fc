// The fair lock before locking transactions: one holder at a time over all processes, in order of arrival. Firestore
// grants read locks to many transactions at a time, which then wait for each other to write (the emulator needs seconds
// to detect that); this lock admits only one. It determines the order only; the transaction ensures correctness, so a
// lock that is taken over too early costs time, but loses no update.
import { createHash, randomUUID } from 'node:crypto';
import { z } from 'zod';
import type { Bounds } from '../../async.ts';
import { pause } from '../../async.ts';
import { defineDocument } from '../define-document.ts';
import { Conflict, type Ref } from '../store.ts';
import type { FirestoreClient } from './client.ts';
import { nameOf, readDocuments } from './documents.ts';
import { toCommitError, toReadError } from './errors.ts';
import { toFields } from './values.ts';
import type { WireWrite } from './wire.ts';

/**
 * After this time the holder counts as crashed and the next process continues; a transaction takes tens of
 * milliseconds.
 */
const HOLD_MAX_MS = 3_000;
/**
 * Longest pause between two reads, times the number of processes ahead in the queue, so that the next one reads often
 * and the last one rarely.
 */
const PAUSE_STEP_MS = 15;
const PAUSE_MAX_MS = 250;
const LEAVE_TIMEOUT_MS = 2_000;
/** The document of a lock is deleted when it was unused for this long. */
const FORGOTTEN_MS = 3_600_000;

/** Changed by field transforms only, which do not change the other fields of the document. */
export const Locks = defineDocument({
  collection: 'locks',
  schema: z.object({
    /** Random names in order of arrival, one per waiting process; the first one holds the lock. */
    queue: z.array(z.string()).exactOptional(),
  }),
  owned: 'deployment',
  id: 'hash of the documents of a transaction',
  holds: 'the transactions that wait for Firestore’s lock, in order',
  writtenBy: 'contended transactions',
  kept: '1 hour',
});

/**
 * Waits until the lock named `key` is held, and resolves to the function that releases it; rejects when the bounds'
 * signal fires.
 */
export async function acquireFairLock(
  client: FirestoreClient,
  key: string,
  nowMs: () => number,
  bounds: Bounds,
): Promise<() => Promise<void>> {
  const ref = Locks.ref(createHash('sha256').update(key).digest('base64url'));
  const name = randomUUID();
  try {
    await append(client, ref, name, nowMs, bounds);
    await untilFirst(client, ref, name, nowMs, bounds);
  } catch (error) {
    void leave(client, ref, name);
    throw error;
  }
  return () => leave(client, ref, name);
}

async function untilFirst(
  client: FirestoreClient,
  ref: Ref,
  name: string,
  nowMs: () => number,
  bounds: Bounds,
): Promise<void> {
  let seen: { readonly first: string | undefined; readonly sinceMs: number } | undefined;
  for (;;) {
    const [stored] = await readDocuments(client, [ref], nowMs, bounds).catch((error: unknown) => {
      throw toReadError(error);
    });
    const queue = Locks.read(stored)?.queue ?? [];
    const [first] = queue;
    if (first === name) return;
    const ahead = queue.indexOf(name);
    // The processes behind have removed this one as crashed: it joins again at the end.
    if (ahead === -1) await append(client, ref, name, nowMs, bounds);
    if (seen === undefined || seen.first !== first) seen = { first, sinceMs: performance.now() };
    if (first !== undefined && performance.now() - seen.sinceMs > HOLD_MAX_MS) await leave(client, ref, first);
    await pause(Math.min(PAUSE_MAX_MS, PAUSE_STEP_MS * Math.max(1, ahead)) * Math.random(), bounds.signal);
  }
}

/** Appends by a transform, because transforms do not conflict with each other. */
async function append(
  client: FirestoreClient,
  ref: Ref,
  name: string,
  nowMs: () => number,
  bounds: Bounds,
): Promise<void> {
  const write: WireWrite = {
    name: nameOf(client, ref),
    fields: toFields(undefined, nowMs() + FORGOTTEN_MS),
    paths: ['expire_at'],
    transforms: [{ fieldPath: 'data.queue', append: [name] }],
  };
  for (;;) {
    bounds.signal.throwIfAborted();
    try {
      await client.commit([write], bounds);
      return;
    } catch (error) {
      const meaning = toCommitError(error, true);
      if (!(meaning instanceof Conflict)) throw meaning;
      await pause(PAUSE_STEP_MS * Math.random(), bounds.signal);
    }
  }
}

/** Never throws: if the removal fails, the processes behind remove the name later. */
async function leave(client: FirestoreClient, ref: Ref, name: string): Promise<void> {
  const bounds = { signal: AbortSignal.timeout(LEAVE_TIMEOUT_MS), timeoutMs: LEAVE_TIMEOUT_MS };
  const write: WireWrite = {
    name: nameOf(client, ref),
    fields: {},
    paths: [],
    transforms: [{ fieldPath: 'data.queue', remove: [name] }],
  };
  await client.commit([write], bounds).catch(() => {});
}
