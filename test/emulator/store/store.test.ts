// The Firestore store passes every case of the port on the real emulator.
import { randomBytes } from 'node:crypto';
import { expect, inject, it } from 'vitest';
import { systemClock } from '../../../shared/clock.ts';
import { createFirestoreStore } from '../../../shared/store/firestore/firestore.ts';
import type { Store } from '../../../shared/store/store.ts';
import { storeCases } from '../../cases/store/store.cases.ts';
import { describeWith } from '../../support/requirements.ts';

describeWith('emulators', 'Firestore', () => {
  storeCases('Firestore store', (clock) =>
    createFirestoreStore({
      projectId: `demo-${randomBytes(6).toString('hex')}`,
      emulatorHost: inject('firestoreHost'),
      clock,
    }),
  );

  it('the Firestore store reads, writes and watches in its own database only', async () => {
    const address = { projectId: `demo-${randomBytes(6).toString('hex')}`, emulatorHost: inject('firestoreHost') };
    const [named, byDefault] = [{ databaseId: 'gateway-restored' }, {}].map((database) =>
      createFirestoreStore({ ...address, ...database, clock: systemClock }),
    ) as [Store, Store];
    const ref = { collection: 'turns', id: 'a' };
    try {
      const seen = new Promise<unknown>((resolve, reject) => {
        named.watch(ref, ({ data }) => data !== undefined && resolve(data), reject);
      });
      await named.commit([{ ref, data: { state: 'stored' } }]);
      expect(await seen).toEqual({ state: 'stored' });
      expect((await named.get([ref]))[0]?.data).toEqual({ state: 'stored' });
      expect((await byDefault.get([ref]))[0]?.data).toBeUndefined();
    } finally {
      await Promise.all([named.close(), byDefault.close()]);
    }
  });
});
