// Runs one scenario of the simulation: instances of the limiter in virtual time. Reports what happened to their calls.

import { createDocumentLimiter } from '../../shared/rate-limit/document-limiter.ts';
import { heldCalls } from '../../shared/rate-limit/windows/blocks.ts';
import { toLimitRef, toLimitState } from '../../shared/rate-limit/windows/limit-document.ts';
import { createVirtualStore } from '../support/fixtures/limiter/virtual-store.ts';
import { createVirtualInstance, createVirtualTime } from '../support/fixtures/limiter/virtual-time.ts';
import { createRandom } from '../support/random.ts';

const KEY = 'owner';
const MINUTE = 60_000;
const WARM_UP_MS = 6_000;
const MEASURED_MS = 30_000;
const SAMPLE_MS = 100;
const START_MS = Date.UTC(2026, 0, 1, 12) + MINUTE - WARM_UP_MS - MEASURED_MS / 2;

export interface Scenario {
  readonly name: string;
  readonly instances: number;
  /** Calls a second of all instances together. */
  readonly rate: number;
  readonly isEven: boolean;
  /** Calls a minute. */
  readonly limit: number;
}

export interface Row extends Scenario {
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly p999Ms: number;
  readonly admitted: number;
  readonly refused: number;
  readonly unavailable: number;
  readonly operationsPerCall: number;
  readonly commitsPerSecond: number;
  readonly lostPerSecond: number;
  /** Parts of the limit. */
  readonly heldMean: number;
  readonly heldMost: number;
}

export const SCENARIOS: readonly Scenario[] = [
  scenario(1, 10),
  scenario(1, 50, { limit: 60_000 }),
  scenario(4, 10),
  scenario(4, 200, { limit: 60_000 }),
  scenario(4, 200, { limit: 13_000 }),
  scenario(4, 200, { limit: 13_000, isEven: false }),
  scenario(4, 1_000),
  scenario(20, 80),
  scenario(20, 2_000, { limit: 150_000 }),
  scenario(20, 2_000, { limit: 150_000, isEven: false }),
  scenario(100, 1_000),
  scenario(100, 1_000, { isEven: false }),
  scenario(100, 10_000),
  scenario(500, 5_000),
  scenario(500, 5_000, { isEven: false }),
  scenario(500, 50_000),
];

/** The limit is 1.25 times the calls, where none is given. */
function scenario(instances: number, rate: number, more: Partial<Scenario> = {}): Scenario {
  const { isEven = true, limit = Math.max(1_000, rate * 60 * 1.25) } = more;
  const name = `${instances} x ${isEven ? 'even' : 'uneven'}, ${rate.toLocaleString('en')} calls/s`;
  return { name, instances, rate, isEven, limit };
}

export async function simulate(scenario: Scenario): Promise<Row> {
  const { instances, rate, isEven, limit } = scenario;
  const random = createRandom(1);
  const time = createVirtualTime(START_MS);
  const limits = [
    { max: limit, windowMs: MINUTE },
    { max: limit * 50, windowMs: 60 * MINUTE },
  ];
  const store = createVirtualStore({
    time,
    random: random.fork(),
    latencyMs: [10, 30],
    serviceMs: 20,
    copies: false,
  });
  const latenciesMs: number[] = [];
  const outcomes = { admitted: 0, rate_limited: 0, unavailable: 0, revoked: 0 };
  let isMeasuring = false;

  const weights = Array.from({ length: instances }, (_, index) => (isEven ? 1 : 1 / (index + 1)));
  const sum = weights.reduce((total, weight) => total + weight, 0);
  for (const weight of weights) {
    const instance = createVirtualInstance(time, random.fork());
    const limiter = createDocumentLimiter({ store: store.connect(() => undefined), ...instance });
    const gapMs = (1_000 * sum) / (rate * weight);
    const arrivals = random.fork();
    const next = (): void => {
      const startMs = time.nowMs;
      const isCounted = isMeasuring;
      void limiter.take({ keyId: KEY, limits, cost: 1, mayDegrade: false }).then(({ outcome }) => {
        if (!isCounted) return;
        outcomes[outcome]++;
        latenciesMs.push(time.nowMs - startMs);
      });
      time.after(-Math.log(1 - arrivals.next()) * gapMs, next);
    };
    time.after(arrivals.next() * gapMs, next);
  }

  await time.run(START_MS + WARM_UP_MS);
  const before = { ...store.operations };
  isMeasuring = true;
  const held: number[] = [];
  for (let sample = 0; sample < MEASURED_MS / SAMPLE_MS; sample++) {
    await time.run(time.nowMs + SAMPLE_MS);
    held.push(heldCalls(toLimitState(store.peek(toLimitRef(KEY))), time.nowMs) / limit);
  }
  isMeasuring = false;
  const since = (of: (counts: typeof before) => number): number => of(store.operations) - of(before);
  const seconds = MEASURED_MS / 1_000;
  const sorted = Float64Array.from(latenciesMs).sort();
  const quantile = (part: number): number => sorted[Math.floor(part * (sorted.length - 1))] ?? Number.NaN;
  return {
    ...scenario,
    p50Ms: quantile(0.5),
    p99Ms: quantile(0.99),
    p999Ms: quantile(0.999),
    admitted: outcomes.admitted,
    refused: outcomes.rate_limited,
    unavailable: outcomes.unavailable,
    operationsPerCall: since((all) => all.reads + all.commits + all.conflicts + 4 * all.locks) / sorted.length,
    commitsPerSecond: since((all) => all.commits) / seconds,
    lostPerSecond: since((all) => all.conflicts) / seconds,
    heldMean: held.reduce((total, part) => total + part, 0) / held.length,
    heldMost: Math.max(...held),
  };
}
