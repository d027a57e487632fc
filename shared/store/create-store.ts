// Creates the store of a configuration. On its own, because a function opens it before it loads anything else.
import { join } from 'node:path';
import type { WallClock } from '../clock.ts';
import { type Config, projectOf } from '../config/config.ts';
import type { Store } from './store.ts';

/** The module of an adapter is imported only when it is used. */
export async function createStore(config: Config, clock: WallClock): Promise<Store> {
  if (config.store === 'firestore') {
    const { createFirestoreStore } = await import('./firestore/firestore.ts');
    return createFirestoreStore({
      projectId: projectOf(config),
      databaseId: config.database,
      emulatorHost: config.emulators.firestore,
      clock,
    });
  }
  const { createEmbeddedStore } = await import('./embedded/embedded.ts');
  return createEmbeddedStore({
    path: config.store === 'memory' ? ':memory:' : join(config.dataDir, 'gateway.sqlite'),
    clock,
  });
}
