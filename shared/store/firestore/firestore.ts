// The Store on Cloud Firestore: plain reads, and commits whose writes require the update time that was read. Only
// `lock` retries. Every call has a deadline, and a commit whose response is lost is `unavailable`.

import type { Bounds } from '../../async.ts';
import type { WallClock } from '../../clock.ts';
import { createGrpcClient } from '../../grpc/grpc-client.ts';
import { checkQuery, checkRef, checkWrites } from '../document.ts';
import type { CallOptions, Query, Ref, Snapshot, Store } from '../store.ts';
import { type FirestoreClient, openFirestoreClient } from './client.ts';
import { prepareWrite, queryDocuments, readDocuments, toWireWrite } from './documents.ts';
import { toCommitError, toReadError } from './errors.ts';
import { createLock } from './lock.ts';
import { toVersion } from './values.ts';
import { createFirestoreWatch } from './watch.ts';

export interface FirestoreStoreOptions {
  readonly projectId: string;
  /** Default: `(default)`. */
  readonly databaseId?: string | undefined;
  /** `host:port` of an emulator; default: the cloud, with application default credentials. */
  readonly emulatorHost?: string | undefined;
  readonly clock: WallClock;
}

/** gRPC is imported and a channel is created at the first call. */
export function createFirestoreStore(options: FirestoreStoreOptions): Store {
  const { projectId, databaseId = '(default)', emulatorHost, clock } = options;
  const address = { projectId, databaseId, emulatorHost };
  const nowMs = (): number => clock.now();
  const watcher = createFirestoreWatch(address, nowMs);
  const lock = createLock(nowMs);
  const grpc = createGrpcClient({
    open: () => openFirestoreClient(address),
    close: async (client) => client.close(),
    // The watches have connections of their own, to the same address.
    onReplaced: () => watcher.restart(),
  });

  /** Runs `work` on the open client within the call's bounds, and converts its errors to those of the port. */
  function run<R>(
    call: CallOptions,
    toError: (error: unknown) => unknown,
    work: (client: FirestoreClient, bounds: Bounds) => Promise<R>,
  ): Promise<R> {
    return grpc.run(call, async (client, bounds) => {
      try {
        return await work(client, bounds);
      } catch (error) {
        throw toError(error);
      }
    });
  }

  return {
    isRemote: true,
    async get(refs: readonly Ref[], call: CallOptions = {}): Promise<Snapshot[]> {
      for (const ref of refs) checkRef(ref);
      return run(call, toReadError, (client, bounds) => readDocuments(client, refs, nowMs, bounds));
    },

    async commit(writes, call = {}) {
      checkWrites(writes);
      if (writes.length === 0) return [];
      const prepared = writes.map(prepareWrite);
      const conditional = writes.some((write) => write.if !== undefined);
      const toError = (error: unknown): unknown => toCommitError(error, conditional);
      return run(call, toError, async (client, bounds) => {
        const times = await client.commit(
          prepared.map((write) => toWireWrite(client, write)),
          bounds,
        );
        return writes.map((write, index) => ('delete' in write ? null : toVersion(times[index])));
      });
    },

    async query(query: Query, call: CallOptions = {}): Promise<Snapshot[]> {
      checkQuery(query);
      return run(call, toReadError, (client, bounds) => queryDocuments(client, query, nowMs, bounds));
    },

    watch(ref, listener, onError) {
      checkRef(ref);
      return watcher.watch(ref, listener, onError);
    },

    watchQuery(query, listener, onError) {
      checkQuery(query);
      return watcher.watchQuery(query, listener, onError);
    },

    async lock(refs, compute, call = {}) {
      for (const ref of refs) checkRef(ref);
      return run(call, keep, (client, bounds) => lock(client, refs, compute, bounds));
    },

    async ping(call = {}) {
      await run(call, toReadError, (client, bounds) =>
        readDocuments(client, [{ collection: 'health', id: 'ping' }], nowMs, bounds),
      );
    },

    async close() {
      await Promise.all([watcher.close(), grpc.close()]);
    },
  };
}

function keep(error: unknown): unknown {
  return error;
}
