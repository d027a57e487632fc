// A process of its own that increments one counter of a store file: `node increment.ts FILE TIMES`.
import { systemClock } from '../../../shared/clock.ts';
import { createEmbeddedStore } from '../../../shared/store/embedded.ts';
import { transact } from '../../../shared/store/transact.ts';

const [, , path = '', times = '0'] = process.argv;
const store = createEmbeddedStore({ path, clock: systemClock });
const ref = { collection: 'counters', id: 'shared' };
for (let round = 0; round < Number(times); round++) {
  await transact(store, [ref], ([snapshot]) => ({
    writes: [{ ref, data: { n: Number(snapshot?.data?.n ?? 0) + 1 } }],
    result: undefined,
  }));
}
await store.close();
