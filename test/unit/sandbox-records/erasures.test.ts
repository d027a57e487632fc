// The end of sessions in a sandbox that another process runs: recorded while it is away, and repeated.
import { afterEach, beforeEach, expect, it } from 'vitest';
import { RpcError } from '../../../shared/errors.ts';
import { createLogger } from '../../../shared/log.ts';
import type { Erased } from '../../../shared/sandbox-ports/ports.ts';
import { createErasures, type Erasures, type ErasuresDeps } from '../../../shared/sandbox-records/erasures.ts';
import { createEmbeddedStore } from '../../../shared/store/embedded/embedded.ts';
import type { Store } from '../../../shared/store/store.ts';

const SESSION = { owner: 'a', sessionId: 's' };
const log = createLogger({ format: 'json', write: () => {} });
const clock = { ms: 1_700_000_000_000, now: () => clock.ms };
let store: Store;
let isAway: boolean;
let erased: Erased[];
const opened: Erasures[] = [];
beforeEach(() => {
  store = createEmbeddedStore({ path: ':memory:', clock });
  isAway = false;
  erased = [];
});
afterEach(async () => {
  await Promise.all(opened.splice(0).map((each) => each.close()));
  await store.close();
});

function open(place: ErasuresDeps['place']): Erasures {
  const sandbox = {
    async erase(one: Erased): Promise<void> {
      if (isAway) throw new RpcError('unavailable');
      erased.push(one);
    },
  };
  const made = createErasures({ store, clock, log, sandbox, place });
  opened.push(made);
  return made;
}
const recorded = async (): Promise<number> =>
  (await store.query({ collection: 'sandbox_erasures', orderBy: 'requested_at_ms', limit: 10 })).length;

it('reaches a sandbox that is there, and leaves nothing behind', async () => {
  await open('service').erase(SESSION);
  expect(erased).toEqual([{ ...SESSION, agoMs: 0 }]);
  expect(await recorded()).toBe(0);
});

it('is repeated by another process, for what was started before, and once', async () => {
  isAway = true;
  await open('service').erase(SESSION);
  await open('service').erase({ owner: 'b' });
  const other = open('service');
  await other.sweep();
  expect([erased.length, await recorded()]).toEqual([0, 2]);
  isAway = false;
  clock.ms += 5_000;
  await other.sweep();
  await other.sweep();
  expect(erased).toHaveLength(2);
  expect(erased).toContainEqual({ ...SESSION, agoMs: 5_000 });
  expect(erased).toContainEqual({ owner: 'b', sessionId: undefined, agoMs: 5_000 });
  expect(await recorded()).toBe(0);
});

it('a time that is ahead ends nothing that was started since', async () => {
  isAway = true;
  await open('service').erase(SESSION);
  isAway = false;
  clock.ms -= 60_000;
  await open('service').sweep();
  expect(erased).toEqual([{ ...SESSION, agoMs: 0 }]);
});

it('is recorded by a process that reaches no sandbox', async () => {
  await open('elsewhere').erase(SESSION);
  expect([erased.length, await recorded()]).toEqual([0, 1]);
});

it('fails with the sandbox of this process', async () => {
  isAway = true;
  await expect(open('here').erase(SESSION)).rejects.toMatchObject({ reason: 'unavailable' });
  expect(await recorded()).toBe(0);
});
