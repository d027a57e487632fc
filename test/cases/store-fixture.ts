// What the suites of Store cases share: the store under test, and documents and collections nobody else uses.
import { randomBytes } from 'node:crypto';
import type { WallClock } from '../../shared/clock.ts';
import type { Ref, Snapshot, Store } from '../../shared/store/store.ts';

/** The store under test, opened once per suite; `clock.ms` may be moved. Collections and ids are fresh per use. */
export interface StoreFixture {
  readonly store: () => Store;
  readonly clock: WallClock & { ms: number };
}

/** A document nobody else uses. */
export function freshRef(collection = 'cases'): Ref {
  return { collection, id: `c${randomBytes(12).toString('hex')}` };
}

/** A collection nobody else uses. */
export function freshCollection(): string {
  return `c${randomBytes(8).toString('hex')}`;
}

/** Reads one document. */
export async function read<T extends object>(store: Store, ref: Ref): Promise<Snapshot<T>> {
  const [snapshot] = await store.get<T>([ref]);
  if (snapshot === undefined) throw new Error('get answered nothing');
  return snapshot;
}

/** Writes one document and returns its version. */
export async function put(store: Store, ref: Ref, data: object, expireAtMs?: number): Promise<string> {
  const [version] = await store.commit([{ ref, data, ...(expireAtMs === undefined ? {} : { expireAtMs }) }]);
  if (typeof version !== 'string') throw new Error('commit answered no version');
  return version;
}
