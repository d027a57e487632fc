// The end of a session is recorded while the sandbox of another process is away, and repeated when a process reaches
// it.
import { afterEach, beforeEach, expect, it } from 'vitest';
import { RpcError } from '../../../shared/errors.ts';
import { createLogger } from '../../../shared/log.ts';
import type { Erased } from '../../../shared/sandbox-ports/ports.ts';
import { createErasures, type Erasures, type ErasuresDeps } from '../../../shared/sandbox-records/erasures.ts';
import { createEmbeddedStore } from '../../../shared/store/embedded/embedded.ts';
import type { Store } from '../../../shared/store/store.ts';

const SESSION = { owner: 'a', sessionId: 's' };
const log = createLogger({ format: 'json', write: () => {} });
const clock = { ms: 0, wrongMs: 0, now: () => 1_700_000_000_000 + clock.ms + clock.wrongMs, monotonic: () => clock.ms };
let store: Store;
let isAway: boolean;
let erased: Erased[];
/** An owner whose erasure fails. */
let failing: string | undefined;
const opened: Erasures[] = [];
beforeEach(() => {
  store = createEmbeddedStore({ path: ':memory:', clock });
  isAway = false;
  failing = undefined;
  erased = [];
  clock.wrongMs = 0;
});
afterEach(async () => {
  await Promise.all(opened.splice(0).map((each) => each.close()));
  await store.close();
});

function open(place: ErasuresDeps['place']): Erasures {
  const sandbox = {
    async erase(one: Erased): Promise<void> {
      if (isAway || one.owner === failing) throw new RpcError('unavailable');
      erased.push(one);
    },
  };
  const made = createErasures({ store, clock, log, sandbox, place });
  opened.push(made);
  return made;
}
const recorded = async (): Promise<number> =>
  (await store.query({ collection: 'sandbox_erasures', orderBy: 'requested_at_ms', limit: 10 })).length;

it('an erasure that reaches the sandbox is not recorded', async () => {
  await open('service').erase(SESSION);
  expect(erased).toEqual([{ ...SESSION, agoMs: 0 }]);
  expect(await recorded()).toBe(0);
});

it('a recorded erasure is repeated once by another process, for what was started before it', async () => {
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

it('the erasures continue after one that fails, which is repeated later', async () => {
  isAway = true;
  for (const owner of ['a', 'b', 'c']) {
    await open('service').erase({ owner });
    clock.ms += 1;
  }
  isAway = false;
  failing = 'a';
  const sweeper = open('service');
  await sweeper.sweep();
  expect([erased.map(({ owner }) => owner).sort(), await recorded()]).toEqual([['b', 'c'], 1]);
  failing = undefined;
  await sweeper.sweep();
  expect([erased.at(-1)?.owner, await recorded()]).toEqual(['a', 0]);
});

for (const [name, wrongMs] of Object.entries({ ahead: 7_200_000, behind: -7_200_000 })) {
  it(`a record of a clock that is hours ${name} is as old as the sweeps have seen`, async () => {
    const sweeper = open('service');
    await sweeper.sweep();
    clock.ms += 40_000;
    isAway = true;
    clock.wrongMs = wrongMs;
    await open('service').erase(SESSION);
    clock.wrongMs = 0;
    clock.ms += 20_000;
    await sweeper.sweep();
    clock.ms += 60_000;
    isAway = false;
    await sweeper.sweep();
    expect(erased).toEqual([{ ...SESSION, agoMs: wrongMs > 0 ? 60_000 : 120_000 }]);
  });
}

it('a time that is ahead ends nothing that was started since, also at the first sweep', async () => {
  isAway = true;
  clock.wrongMs = 60_000;
  await open('service').erase(SESSION);
  clock.wrongMs = 0;
  isAway = false;
  await open('service').sweep();
  expect(erased).toEqual([{ ...SESSION, agoMs: 0 }]);
});

it('an erasure is recorded by a process that reaches no sandbox', async () => {
  await open('elsewhere').erase(SESSION);
  expect([erased.length, await recorded()]).toEqual([0, 1]);
});

it('an erasure fails with the sandbox of this process', async () => {
  isAway = true;
  await expect(open('here').erase(SESSION)).rejects.toMatchObject({ reason: 'unavailable' });
  expect(await recorded()).toBe(0);
});
