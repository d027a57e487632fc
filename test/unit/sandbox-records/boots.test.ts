// The gateway processes on one store record and find the newest boot of the sandbox service, also with clocks that
// differ.
import { afterEach, beforeEach, expect, it } from 'vitest';
import { createLogger } from '../../../shared/log.ts';
import type { BootRecords } from '../../../shared/sandbox-link/client/boots.ts';
import type { ReachedSandbox } from '../../../shared/sandbox-link/link/link.ts';
import { createBootRecords } from '../../../shared/sandbox-records/boots.ts';
import { createEmbeddedStore } from '../../../shared/store/embedded/embedded.ts';
import type { Store } from '../../../shared/store/store.ts';

const NOW = 1_700_000_000_000;
const MINUTE = 60_000;
const log = createLogger({ format: 'json', write: () => {} });
const clock = { ms: NOW, now: () => clock.ms };
let store: Store;
beforeEach(() => {
  clock.ms = NOW;
  store = createEmbeddedStore({ path: ':memory:', clock });
});
afterEach(() => store.close());

const records = (url = 'https://sandbox.test'): BootRecords => createBootRecords({ store, clock, log, url });
const boot = (bootId: string, startedAtMs: number): ReachedSandbox => ({
  ...{ bootId, startedAtMs },
  protocol: { min: 1, max: 2 },
});
const [older, newer] = [boot('older', NOW - 2 * MINUTE), boot('newer', NOW - MINUTE)];

it('the newest boot is the one that was started last, also if another one is reached later', async () => {
  const [first, second] = [records(), records()];
  expect(await first.reached(older)).toEqual(older);
  expect(await second.reached(newer)).toEqual(newer);
  expect(await first.reached(older)).toEqual(newer);
  expect(await records('https://other.test').reached(older)).toEqual(older);
});

it('a newer boot is announced to its watchers', async () => {
  const seen: string[] = [];
  const stop = records().watch(({ bootId }) => seen.push(bootId));
  await records().reached(older);
  await records().reached(newer);
  await expect.poll(() => seen.at(-1)).toBe('newer');
  stop();
});

it('the newest boot is removed when no process has a link to it any more, as after a rollback', async () => {
  await records().reached(newer);
  clock.ms += 2 * MINUTE;
  expect(await records().reached(newer)).toEqual(newer);
  clock.ms += 2 * MINUTE;
  expect(await records().reached(older)).toEqual(newer);
  clock.ms += 2 * MINUTE;
  expect(await records().reached(older)).toEqual(older);
});

it('a boot whose start is more than five minutes ahead is not the newest one', async () => {
  const ahead = boot('ahead', NOW + 6 * MINUTE);
  expect(await records().reached(ahead)).toEqual(ahead);
  expect(await records().reached(older)).toEqual(older);
  expect(await records().reached(ahead)).toEqual(older);
  const skewed = boot('skewed', NOW + 4 * MINUTE);
  expect(await records().reached(skewed)).toEqual(skewed);
});

it('a boot that was last seen more than five minutes ahead is not the newest one', async () => {
  clock.ms += 10 * MINUTE;
  await records().reached(newer);
  clock.ms = NOW;
  expect(await records().reached(older)).toEqual(older);
});
