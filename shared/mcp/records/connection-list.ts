// The list of a key's MCP connections, in one document of the key that every call reads. Changes are transactions, so
// that instances do not overwrite each other's changes.
import type { Clock } from '../../clock.ts';
import { hashOwner } from '../../store/define-document.ts';
import type { Ref, Store, Write } from '../../store/store.ts';
import { transact } from '../../store/transact.ts';
import { type Connected, McpConnections, McpOwners } from './documents.ts';

export interface ConnectionList {
  /** The connections that have not expired. */
  read(owner: string): Promise<readonly Connected[]>;
  /**
   * Replaces the list by what `compute` returns for the connections that have not expired, and returns those. The
   * documents of connections that are no longer in the list are deleted in the same transaction; `extra` is written in
   * it. `compute` returns its argument to change nothing; its errors are thrown.
   */
  change(
    owner: string,
    compute: (alive: readonly Connected[]) => readonly Connected[],
    extra?: readonly Write[],
  ): Promise<readonly Connected[]>;
  /** Changes fields of one connection, if it is in the list. Returns as `change`. */
  update(owner: string, id: string, changed: Partial<Connected>): Promise<readonly Connected[]>;
}

/** `timeoutMs` is the deadline of each access to the store. */
export function createConnectionList(store: Store, clock: Clock, timeoutMs: number): ConnectionList {
  const isAlive = (entry: Connected): boolean => entry.expires_at_ms > clock.now();

  const change: ConnectionList['change'] = async (owner, compute, extra = []) => {
    const ref = ownerRef(owner);
    const { result } = await transact(
      store,
      [ref],
      ([snapshot]) => {
        const stored = McpOwners.read(snapshot);
        const all = stored?.connections ?? [];
        const alive = all.filter(isAlive);
        const connections = compute(alive);
        const kept = new Set(connections.map(({ id }) => id));
        const deletes = all
          .filter(({ id }) => !kept.has(id))
          .map(({ id }): Write => ({ ref: McpConnections.ref(id), delete: true }));
        if (connections === alive && deletes.length === 0) return { writes: [], result: alive };
        const expireAtMs = Math.max(0, ...connections.map((entry) => entry.expires_at_ms));
        const list: Write =
          connections.length === 0
            ? { ref, delete: true }
            : McpOwners.write(ref, { ...stored, owner, connections }, { expireAtMs });
        return { writes: [list, ...deletes, ...extra], result: alive };
      },
      { timeoutMs },
    );
    return result;
  };

  return {
    change,
    update: (owner, id, changed) =>
      change(owner, (alive) =>
        alive.some((entry) => entry.id === id)
          ? alive.map((entry) => (entry.id === id ? { ...entry, ...changed } : entry))
          : alive,
      ),
    async read(owner) {
      const [snapshot] = await store.get([ownerRef(owner)], { timeoutMs });
      return (McpOwners.read(snapshot)?.connections ?? []).filter(isAlive);
    },
  };
}

export function ownerRef(owner: string): Ref {
  return McpOwners.ref(hashOwner(owner));
}
