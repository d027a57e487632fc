// Errors of Firestore reach a caller as outages or defects: those of queries by the texts that Firestore sends with
// FAILED_PRECONDITION, and an outage at each call of a locking transaction.
import { expect, it } from 'vitest';
import { RpcError } from '../../../shared/errors.ts';
import type { FirestoreClient } from '../../../shared/store/firestore/client.ts';
import { toReadError } from '../../../shared/store/firestore/errors.ts';
import { createLock } from '../../../shared/store/firestore/lock.ts';
import type { Data } from '../../../shared/store/store.ts';

const refused = (message: string): Error => Object.assign(new Error(`9 FAILED_PRECONDITION: ${message}`), { code: 9 });
const SEE = 'See its status here: https://console.firebase.google.com/v1/r/project/p/firestore/indexes';

it.each([
  `The query requires an index. That index is currently building and cannot be used yet. ${SEE}`,
  `The query requires a COLLECTION_ASC index for collection conversations and field x. That index is not ready yet. ${SEE}`,
])('a query whose index is being built can be sent again: %s', (message) => {
  expect(toReadError(refused(message))).toMatchObject({ reason: 'unavailable' });
});

it('a query without an index is a defect, which no retry mends', () => {
  const error = refused('The query requires an index. You can create it here: https://console.firebase.google.com/x');
  expect(toReadError(error)).toBe(error);
  expect(toReadError(error)).not.toBeInstanceOf(RpcError);
});

it.each(['the lock is joined', 'its turn is awaited', 'it begins', 'its documents are read', 'it commits'])(
  'an outage of a locking transaction can be sent again: when %s',
  async (when) => {
    const outage = Object.assign(new Error('14 UNAVAILABLE: No connection established'), { code: 14 });
    const failing = (step: string) => (step === when ? Promise.reject(outage) : Promise.resolve());
    let queue: readonly string[] = [];
    const client: FirestoreClient = {
      nameOf: (collection, id) => `${collection}/${id}`,
      async get([name = ''], _bounds, transaction) {
        await failing(transaction === undefined ? 'its turn is awaited' : 'its documents are read');
        const data: Data = { queue };
        return new Map([[name, { name, data, updateTime: undefined }]]);
      },
      async commit([write], _bounds, transaction) {
        queue = write?.transforms?.[0]?.append ?? queue;
        await failing(transaction === undefined ? 'the lock is joined' : 'it commits');
        return [];
      },
      query: async () => [],
      begin: async () => {
        await failing('it begins');
        return new Uint8Array([1]);
      },
      rollback: async () => {},
      close() {},
    };
    const bounds = { signal: new AbortController().signal, timeoutMs: 1_000 };
    const compute = () => ({ writes: [], result: 'done' });
    const committed = createLock(() => 0)(client, [{ collection: 'cases', id: 'a' }], compute, bounds);
    await expect(committed).rejects.toMatchObject({ reason: 'unavailable' });
  },
);
