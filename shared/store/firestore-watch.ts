// Watching one document through the SDK's listener, which reconnects and resumes by itself. Imports the SDK's own client at the first
// watch; a process that never watches never has it.
import type { Firestore } from '@google-cloud/firestore';
import type { FirestoreAddress } from './firestore-client.ts';
import { toDocumentId } from './firestore-query.ts';
import { toVersion } from './firestore-values.ts';
import type { Ref, Snapshot } from './store.ts';

export interface FirestoreWatch {
  watch<T extends object>(
    ref: Ref,
    listener: (snapshot: Snapshot<T>) => void,
    onError: ((error: unknown) => void) | undefined,
  ): () => void;
  /** Ends every watch and the connection. */
  close(): Promise<void>;
}

/** `nowMs` tells the time for expiry. */
export function createFirestoreWatch(address: FirestoreAddress, nowMs: () => number): FirestoreWatch {
  let opening: Promise<Firestore> | undefined;
  const stops = new Set<() => void>();
  return {
    watch(ref, listener, onError) {
      let seen: string | null | undefined;
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
      opening.then((firestore) => {
        if (!active) return;
        const document = firestore.collection(ref.collection).doc(toDocumentId(ref.id));
        unsubscribe = document.onSnapshot((found) => {
          const version =
            found.updateTime === undefined
              ? null
              : toVersion({ seconds: found.updateTime.seconds, nanos: found.updateTime.nanoseconds });
          // The listener may repeat a state after a reconnect.
          if (!active || version === seen) return;
          seen = version;
          const expireAt: unknown = found.get('expire_at');
          listener({ ref, data: isPast(expireAt, nowMs()) ? undefined : found.get('data'), version });
        }, fail);
      }, fail);
      return stop;
    },
    async close() {
      for (const stop of [...stops]) stop();
      await (await opening)?.terminate();
    },
  };
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
