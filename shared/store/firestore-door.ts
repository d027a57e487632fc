// The door in front of locking transactions: one holder at a time over all processes. Firestore grants read locks to many transactions
// at once, which then all wait for each other to write (the emulator takes seconds to notice); behind the door there is only one. The
// door decides who goes first, the transaction behind it what is true: a door taken over too early costs time, never an update.
import { createHash, randomUUID } from 'node:crypto';
import type { Bounds } from './bounded.ts';
import type { FirestoreClient } from './firestore-client.ts';
import { prepareWrite, readDocuments, toWireWrite } from './firestore-documents.ts';
import { toCommitError } from './firestore-errors.ts';
import { toVersion } from './firestore-values.ts';
import { pause } from './pause.ts';
import { Conflict, type Precondition, type Ref, type Version, type Write } from './store.ts';

/** How long a holder that died keeps the others waiting; a live one takes tens of milliseconds. */
const HOLD_MAX_MS = 3_000;
/** Longest pause before asking again: who has waited longer asks more often, so that newcomers do not overtake for ever. */
const PAUSE_FIRST_MS = 100;
const PAUSE_STEP_MS = 10;
const PAUSE_LAST_MS = 20;
const RELEASE_TIMEOUT_MS = 2_000;

/** Waits until the door named `key` is held, and resolves to the function that leaves it; rejects when the bounds' signal fires. */
export async function enterDoor(
  client: FirestoreClient,
  key: string,
  nowMs: () => number,
  bounds: Bounds,
): Promise<() => Promise<void>> {
  const ref: Ref = { collection: 'locks', id: createHash('sha256').update(key).digest('base64url') };
  for (let attempt = 1; ; attempt++) {
    bounds.signal.throwIfAborted();
    const version = await take(client, ref, await vacancy(client, ref, attempt, nowMs, bounds), nowMs, bounds);
    if (version !== undefined) return () => leave(client, ref, version);
    await pause(Math.random() * Math.max(PAUSE_LAST_MS, PAUSE_FIRST_MS - PAUSE_STEP_MS * attempt), bounds.signal);
  }
}

/** What must hold for the door to be free: nothing there, or (looked up after a first refusal) a holder that is overdue. */
async function vacancy(
  client: FirestoreClient,
  ref: Ref,
  attempt: number,
  nowMs: () => number,
  bounds: Bounds,
): Promise<Precondition> {
  if (attempt === 1) return 'absent';
  const [held] = await readDocuments(client, [ref], nowMs, bounds);
  return held === undefined || held.version === null || held.data !== undefined ? 'absent' : { version: held.version };
}

async function take(
  client: FirestoreClient,
  ref: Ref,
  condition: Precondition,
  nowMs: () => number,
  bounds: Bounds,
): Promise<Version | undefined> {
  // The holder's own mark makes every holding another state, and so another version.
  const write: Write = { ref, data: { holder: randomUUID() }, expireAtMs: nowMs() + HOLD_MAX_MS, if: condition };
  try {
    const [time] = await client.commit([toWireWrite(client, prepareWrite(write))], bounds);
    return toVersion(time);
  } catch (error) {
    const meaning = toCommitError(error, true);
    if (meaning instanceof Conflict) return undefined;
    throw meaning;
  }
}

/** Never throws: what is not left now is overdue soon. */
async function leave(client: FirestoreClient, ref: Ref, version: Version): Promise<void> {
  const bounds = { signal: AbortSignal.timeout(RELEASE_TIMEOUT_MS), timeoutMs: RELEASE_TIMEOUT_MS };
  const write: Write = { ref, delete: true, if: { version } };
  await client.commit([toWireWrite(client, prepareWrite(write))], bounds).catch(() => {});
}
