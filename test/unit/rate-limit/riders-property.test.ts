// Each call that rides is counted once, and its rider is stored if and only if it is admitted, under seeded schedules
// in virtual time where each call is counted alone: several instances that write the same documents, crashes, and
// commits that are lost, late or of unknown outcome. `LIMITER_RUNS=5000` for more runs, `LIMITER_SEED` for one.
import { expect, test } from 'vitest';
import { createLimiterWorld } from '../../support/fixtures/limiter/limiter-world.ts';
import { createRandom } from '../../support/random.ts';

const RUNS = Number(process.env.LIMITER_RUNS ?? 40);
const SEED = process.env.LIMITER_SEED;
const SECOND = 1_000;
const HOUR = 3_600 * SECOND;
const NOON = Date.UTC(2026, 0, 1, 12);
/** Three deadlines: those of the two commits of a call, and that of a commit that arrives after them. */
const SETTLED_MS = 12 * SECOND;

interface Tally {
  admitted: number;
  refused: number;
  unavailable: number;
  crashed: number;
}

async function check(seed: number, tally: Tally): Promise<void> {
  const random = createRandom(seed);
  const hasFaults = random.chance(0.7);
  const hour = { max: random.pick([30, 60, 900]), windowMs: HOUR };
  const world = createLimiterWorld({
    random,
    limits: random.chance(0.5) ? [hour] : [{ max: random.int(5, 40), windowMs: 5 * SECOND }, hour],
    startMs: NOON + random.int(0, 30 * SECOND),
    instances: random.int(1, 4),
    hasFaults,
    hasReleased: random.chance(0.2),
  });
  const calls = random.int(20, 80);
  for (let call = 0; call < calls; call++) {
    world.time.after(random.next() * 10 * SECOND, () => {
      const instance = random.pick(world.all);
      if (!instance.isCrashed) void world.call(instance, random.chance(0.1) ? 3 : 1, random.chance(0.7));
    });
  }
  if (hasFaults && random.chance(0.4)) {
    const crashed = random.pick(world.all);
    world.time.after(random.next() * 10 * SECOND, () => {
      crashed.isCrashed = true;
      world.all.push(world.addInstance());
    });
  }
  await world.time.run(world.time.nowMs + 10 * SECOND);
  world.stopFaults();
  await world.time.run(world.time.nowMs + SETTLED_MS);
  world.checkRiders();
  expect(world.violations.slice(0, 5), `seed ${seed}`).toEqual([]);
  const counted = world.state().windows.find(({ window_ms }) => window_ms === HOUR)?.count ?? 0;
  expect(counted, `seed ${seed}: counted`).toBeGreaterThanOrEqual(world.admittedCalls);
  expect(counted, `seed ${seed}: counted`).toBeLessThanOrEqual(world.admittedCalls + world.unknownCalls);
  for (const { outcome } of world.riders) {
    if (outcome === 'admitted') tally.admitted++;
    else if (outcome === 'unavailable') tally.unavailable++;
    else if (outcome === undefined) tally.crashed++;
    else tally.refused++;
  }
}

test(`each call is counted once, and its rider stored with the count only, in ${SEED ?? RUNS} seeded runs`, {
  timeout: 3_600_000,
}, async () => {
  const tally: Tally = { admitted: 0, refused: 0, unavailable: 0, crashed: 0 };
  if (SEED !== undefined) return check(Number(SEED), tally);
  for (let seed = 1; seed <= RUNS; seed++) await check(seed, tally);
  // The runs reach every outcome.
  expect(Math.min(...Object.values(tally)), JSON.stringify(tally)).toBeGreaterThan(0);
});
