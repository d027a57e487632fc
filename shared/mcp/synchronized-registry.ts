// Synchronizes the open connections of this instance with the stored ones: a connection that any instance has removed
// is closed; the end of a process is stored, so that it is started again only once.
import type { Store } from '../store/store.ts';
import type { Connected } from './records/documents.ts';
import { createOwnerWatches } from './records/owner-watches.ts';
import type { McpRecords } from './records/records.ts';
import { createRegistry, type OpenConnection, type Registry } from './registry.ts';

export interface SynchronizedRegistry {
  readonly registry: Registry;
  /** The connections of a key, as stored. Closes open connections that are stored no more. */
  listed(owner: string): Promise<readonly Connected[]>;
  /** Closes all connections; the stored ones remain. Call it when `closing` has aborted. */
  close(): Promise<void>;
}

export interface SynchronizedRegistryDeps {
  readonly store: Store;
  readonly records: McpRecords;
  readonly idleMs: number;
  /** Aborts when the instance stops: connections that end then remain stored. */
  readonly closing: AbortSignal;
}

export function createSynchronizedRegistry(deps: SynchronizedRegistryDeps): SynchronizedRegistry {
  const { store, records, idleMs, closing } = deps;
  /** Writes about ended connections that are in progress. */
  const ending = new Set<Promise<unknown>>();
  const watches = createOwnerWatches(store, (owner) => void listed(owner).catch(() => {}));
  const registry = createRegistry({
    idleMs,
    onChanged: (owner) => watches.set(owner, !closing.aborted && registry.of(owner).length > 0),
    onEnded(connection) {
      if (closing.aborted) return;
      const done: Promise<unknown> = recordEnd(connection)
        .catch(() => {})
        .finally(() => ending.delete(done));
      ending.add(done);
    },
  });

  const recordEnd = ({ owner, id, bootId }: OpenConnection): Promise<unknown> =>
    bootId === undefined ? records.remove(owner, (entry) => entry.id === id) : records.ended(owner, id, bootId);

  const listed = async (owner: string): Promise<readonly Connected[]> => {
    await Promise.all(ending);
    // Read before the list: a connection that is opened during the read may not be in it, and must not be closed.
    const before = registry.of(owner);
    const entries = await records.list(owner);
    const ids = new Set(entries.map(({ id }) => id));
    for (const { id } of before) if (!ids.has(id)) void registry.end(id);
    return entries;
  };

  return {
    registry,
    listed,
    async close() {
      watches.close();
      await registry.endAll();
      await Promise.all(ending);
    },
  };
}
