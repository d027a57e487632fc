// Watches a document or a query by the SDK's listeners, which reconnect and resume. Imports the SDK's own client at the
// first watch.
import type { DocumentSnapshot, Firestore } from '@google-cloud/firestore';
import { CHANNEL_OPTIONS, EMULATOR_CHANNEL_OPTIONS } from '../../grpc/grpc-client.ts';
import { createClients, type Opened } from '../../grpc/grpc-replacement.ts';
import type { Query, Ref, Snapshot } from '../store.ts';
import type { FirestoreAddress } from './client.ts';
import { fromDocumentId, toDocumentId } from './query.ts';
import { toVersion } from './values.ts';

type OnError = ((error: unknown) => void) | undefined;

export interface FirestoreWatch {
  watch(ref: Ref, listener: (snapshot: Snapshot) => void, onError: OnError): () => void;
  watchQuery(query: Query, listener: (snapshots: Snapshot[]) => void, onError: OnError): () => void;
  /** Starts every watch again, on a new connection: the SDK waits up to a minute until it tries a dead one again. */
  restart(): void;
  /** Ends every watch. The connection is closed a minute later, if the process has not ended before. */
  close(): void;
}

interface Watch {
  readonly listen: (firestore: Firestore, isActive: () => boolean, fail: (error: unknown) => void) => () => void;
  readonly onError: OnError;
  unsubscribe: (() => void) | undefined;
}

/** `nowMs` returns the time for expiry. */
export function createFirestoreWatch(address: FirestoreAddress, nowMs: () => number): FirestoreWatch {
  // A replaced client is closed later: the SDK rejects a promise that nothing handles if it is terminated while it
  // opens a stream, which it tries several times.
  const clients = createClients({
    open: () => openListener(address),
    close: (firestore: Firestore) => firestore.terminate(),
  });
  /** The client of the newest watch. */
  let used: Opened<Firestore> | undefined;
  const active = new Set<Watch>();

  /** Calls `listen` when the client is created; `isActive` returns whether the watcher is still registered. */
  function start(listen: Watch['listen'], onError: OnError): () => void {
    const watch: Watch = { listen, onError, unsubscribe: undefined };
    active.add(watch);
    subscribe(watch);
    return () => {
      active.delete(watch);
      watch.unsubscribe?.();
    };
  }

  function subscribe(watch: Watch): void {
    const isActive = (): boolean => active.has(watch);
    const fail = (error: unknown): void => {
      if (isActive()) watch.onError?.(error);
    };
    const opened = clients.current();
    used = opened;
    opened.opening
      .then((firestore) => {
        // A later client is in place when the watches were started again meanwhile.
        if (isActive() && clients.isCurrent(opened)) watch.unsubscribe = watch.listen(firestore, isActive, fail);
      })
      .catch(fail);
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

    restart() {
      if (used === undefined) return;
      clients.retire(used);
      for (const watch of active) {
        watch.unsubscribe?.();
        watch.unsubscribe = undefined;
        subscribe(watch);
      }
    },

    close() {
      for (const watch of active) watch.unsubscribe?.();
      active.clear();
      if (used !== undefined) clients.retire(used);
    },
  };
}

function toSdkQuery(firestore: Firestore, query: Query) {
  const direction = query.direction ?? 'asc';
  let found = firestore.collection(query.collection).orderBy(`data.${query.orderBy}`, direction);
  for (const [field, value] of Object.entries(query.where ?? {})) found = found.where(`data.${field}`, '==', value);
  const { contains } = query;
  if (contains !== undefined) found = found.where(`data.${contains.field}`, 'array-contains', contains.value);
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
      ? CHANNEL_OPTIONS
      : {
          ...EMULATOR_CHANNEL_OPTIONS,
          host: emulatorHost,
          ssl: false,
          clientOptions: { universeDomain: 'googleapis.com' },
        }),
  });
}

function isPast(expireAt: unknown, nowMs: number): boolean {
  if (typeof expireAt !== 'object' || expireAt === null || !('toMillis' in expireAt)) return false;
  return typeof expireAt.toMillis === 'function' && expireAt.toMillis() <= nowMs;
}
