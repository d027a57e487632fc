// The limiter with blocks and riders never admits too many calls and refuses only for a reason, under seeded schedules
// in virtual time: several instances, crashes, commits that are lost, late or of unknown outcome, clocks that are wrong
// and step, and window edges. `LIMITER_RUNS=5000` for more runs, `LIMITER_SEED` for one.
import { expect, test } from 'vitest';
import type { Limit } from '../../../shared/config/values/limits.ts';
import { report } from '../../../shared/rate-limit/windows/windows.ts';
import { createLimiterWorld, type LimiterWorld } from '../../support/fixtures/limiter/limiter-world.ts';
import { createRandom, type Random } from '../../support/random.ts';

const RUNS = Number(process.env.LIMITER_RUNS ?? 25);
const SEED = process.env.LIMITER_SEED;
const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const NOON = Date.UTC(2026, 0, 1, 12);
/** The longest life of a block, its pause for idle owners, and retries. */
const SETTLED_MS = 20_000;

const LIMITS: readonly (readonly Limit[])[] = [
  [{ max: 1_000, windowMs: MINUTE }],
  [{ max: 1_200, windowMs: 5 * SECOND }],
  [
    { max: 1_500, windowMs: MINUTE },
    { max: 2_000, windowMs: HOUR },
  ],
  [
    { max: 1_000, windowMs: SECOND },
    { max: 1_900, windowMs: MINUTE },
    { max: 3_000, windowMs: HOUR },
  ],
];

interface Run {
  readonly world: LimiterWorld;
  readonly random: Random;
  readonly limits: readonly Limit[];
  readonly isCalm: boolean;
}

/** Calls of one owner over `forMs`: single ones, bursts and batches. */
async function makeCalls({ world, random, isCalm }: Run, forMs: number): Promise<void> {
  const untilMs = world.time.nowMs + forMs;
  const calls = random.int(100, 300);
  for (let call = 0; call < calls; call++) {
    const costs = random.chance(0.1) ? random.int(5, 60) : random.int(1, 8);
    const count = random.chance(0.05) ? 10 : 1;
    world.time.after(random.next() * forMs, () => {
      const instance = random.pick(world.all);
      if (instance.isCrashed) return;
      for (let index = 0; index < count; index++) void world.call(instance, costs, random.chance(0.3));
    });
  }
  if (!isCalm) {
    for (const instance of world.all) {
      if (random.chance(0.3)) world.time.after(random.next() * forMs, () => (instance.skewMs = random.int(-900, 900)));
      if (random.chance(0.1)) {
        const atMs = random.next() * forMs;
        world.time.after(atMs, () => (instance.skewMs = random.pick([-30, -7, 7, 30]) * SECOND));
        world.time.after(atMs + 2 * SECOND, () => (instance.skewMs = 0));
      }
    }
    if (random.chance(0.4)) {
      const crashed = random.pick(world.all);
      world.time.after(random.next() * forMs, () => {
        crashed.isCrashed = true;
        world.all.push(world.addInstance());
      });
    }
  }
  await world.time.run(untilMs);
}

async function check(seed: number): Promise<void> {
  const random = createRandom(seed);
  const isCalm = random.chance(0.3);
  const limits = random.pick(LIMITS);
  const startMs = NOON + MINUTE - random.int(0, 12) * SECOND + random.int(0, 999);
  const world = createLimiterWorld({
    ...{ random, limits, startMs },
    instances: random.int(1, 6),
    hasFaults: !isCalm,
    hasReleased: random.chance(0.25),
  });
  const run = { world, random, limits, isCalm };
  await makeCalls(run, 10 * SECOND);
  world.stopFaults();
  for (const instance of world.all) instance.skewMs = 0;
  await world.time.run(world.time.nowMs + SETTLED_MS);
  world.checkRiders();
  expect(world.violations.slice(0, 5), `seed ${seed}`).toEqual([]);
  if (isCalm) {
    expect(world.heldCalls(), `seed ${seed}: calls still in blocks`).toBe(0);
    expect(world.outcomes.unavailable, `seed ${seed}`).toBe(0);
    const hour = world.state().windows.find(({ window_ms }) => window_ms === HOUR);
    if (hour !== undefined) expect(hour.count, `seed ${seed}: the hour`).toBe(world.admittedCalls);
  }
  // Whatever the document has left is admitted, to an instance that has seen nothing.
  const fresh = world.addInstance();
  const left = Math.min(...report(world.state(), limits, fresh.clock.now()).map(({ remaining }) => remaining));
  if (left > 0) {
    const last = world.call(fresh, left);
    await world.time.run(world.time.nowMs + 500);
    expect(await last, `seed ${seed}: the rest of ${left}`).toMatchObject({ outcome: 'admitted' });
  }
  expect(world.violations.slice(0, 5), `seed ${seed}`).toEqual([]);
}

test(`no label admits more than its limit, and a call is refused only for a reason, in ${SEED ?? RUNS} seeded runs`, {
  timeout: 3_600_000,
}, async () => {
  if (SEED !== undefined) return check(Number(SEED));
  for (let seed = 1; seed <= RUNS; seed++) await check(seed);
});
