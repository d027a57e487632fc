// Watches a document or a query by the SDK's listeners, which reconnect and resume. Imports the SDK's own client at the
// first watch.
import type { DocumentSnapshot, Firestore } from '@google-cloud/firestore';
import type { Query, Ref, Snapshot } from '../store.ts';
import type { FirestoreAddress } from './client.ts';
import { fromDocumentId, toDocumentId } from './query.ts';
import { toVersion } from './values.ts';

type OnError = ((error: unknown) => void) | undefined;

export interface FirestoreWatch {
  watch(ref: Ref, listener: (snapshot: Snapshot) => void, onError: OnError): () => void;
  watchQuery(query: Query, listener: (snapshots: Snapshot[]) => void, onError: OnError): () => void;
  /** Ends every watch and the connection. */
  close(): Promise<void>;
}

/** `nowMs` returns the time for expiry. */
export function createFirestoreWatch(address: FirestoreAddress, nowMs: () => number): FirestoreWatch {
  let opening: Promise<Firestore> | undefined;
  const stops = new Set<() => void>();

  /** Calls `listen` when the client is created; `isActive` returns whether the watcher is still registered. */
  function start(
    listen: (firestore: Firestore, isActive: () => boolean, fail: (error: unknown) => void) => () => void,
    onError: OnError,
  ): () => void {
    let unsubscribe = (): void => {};
    let active = true;
    const stop = (): void => {
      active = false;
      stops.delete(stop);
      unsubscribe();
    };
    stops.add(stop);
    const fail = (error: unknown): void => {
      if (active) onError?.(error);
    };
    opening ??= openListener(address);
    opening
      .then((firestore) => {
        if (active) unsubscribe = listen(firestore, () => active, fail);
      })
      .catch(fail);
    return stop;
  }

  return {
    watch(ref, listener, onError) {
      return start((firestore, isActive, fail) => {
        let seen: string | null | undefined;
        const document = firestore.collection(ref.collection).doc(toDocumentId(ref.id));
        return document.onSnapshot((found) => {
          const version = versionOf(found);
          // The listener may repeat a state after a reconnect.
          if (!isActive() || version === seen) return;
          seen = version;
          listener({ ref, data: dataOf(found, nowMs()), version });
        }, fail);
      }, onError);
    },

    watchQuery(query, listener, onError) {
      return start((firestore, isActive, fail) => {
        let delivered: string | undefined;
        return toSdkQuery(firestore, query).onSnapshot(({ docs }) => {
          const snapshots = docs.flatMap((found) => {
            const ref = { collection: query.collection, id: fromDocumentId(found.id) };
            const data = dataOf(found, nowMs());
            return data === undefined ? [] : [{ ref, data, version: versionOf(found) }];
          });
          const now = snapshots.map(({ ref, version }) => `${ref.id} ${version}`).join('\n');
          if (!isActive() || now === delivered) return;
          delivered = now;
          listener(snapshots);
        }, fail);
      }, onError);
    },

    async close() {
      for (const stop of [...stops]) stop();
      await (await opening)?.terminate();
    },
  };
}

function toSdkQuery(firestore: Firestore, query: Query) {
  const direction = query.direction ?? 'asc';
  let found = firestore.collection(query.collection).orderBy(`data.${query.orderBy}`, direction);
  for (const [field, value] of Object.entries(query.where ?? {})) found = found.where(`data.${field}`, '==', value);
  found = found.orderBy('__name__', direction);
  if (query.after !== undefined) found = found.startAfter(query.after.value, toDocumentId(query.after.id));
  return found.limit(query.limit);
}

function versionOf({ updateTime }: DocumentSnapshot): string | null {
  if (updateTime === undefined) return null;
  return toVersion({ seconds: updateTime.seconds, nanos: updateTime.nanoseconds });
}

/** Undefined if the document is absent or has expired. */
function dataOf(found: DocumentSnapshot, nowMs: number) {
  return isPast(found.get('expire_at'), nowMs) ? undefined : found.get('data');
}

async function openListener({ projectId, databaseId, emulatorHost }: FirestoreAddress): Promise<Firestore> {
  const { Firestore } = await import('@google-cloud/firestore');
  return new Firestore({
    projectId,
    databaseId,
    ...(emulatorHost === undefined
      ? {}
      : { host: emulatorHost, ssl: false, clientOptions: { universeDomain: 'googleapis.com' } }),
  });
}

function isPast(expireAt: unknown, nowMs: number): boolean {
  if (typeof expireAt !== 'object' || expireAt === null || !('toMillis' in expireAt)) return false;
  return typeof expireAt.toMillis === 'function' && expireAt.toMillis() <= nowMs;
}
