// The limiter when Firestore stops answering for real: an emulator of its own, suspended, killed and started again
// under the calls.
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Limit } from '../../shared/config/limits.ts';
import { type Emulator, startFirestoreEmulator } from '../support/emulators.ts';
import { describeWith } from '../support/requirements.ts';
import { type LimiterProcess, quantileMs, startLimiterProcess } from './rate-limit-processes.ts';

const LIMITS: readonly Limit[] = [{ max: 100, windowMs: 86_400_000 }];
const keyId = 'outage';

describeWith('emulators', 'limiter: Firestore stops answering', () => {
  let emulator: Emulator;
  let gateway: LimiterProcess;

  beforeAll(async () => {
    emulator = await startFirestoreEmulator();
    gateway = await startLimiterProcess(emulator.host, { projectId: 'rate-limit-outage', skewMs: 0 });
  }, 60_000);
  afterAll(async () => {
    await gateway.stop();
    await emulator.stop();
  });

  test('a store that hangs is an outage within seconds, never a 429, and calls stop waiting for it', {
    timeout: 60_000,
  }, async () => {
    expect((await gateway.run({ keyId, limits: LIMITS, calls: 30 })).outcomes).toEqual({ admitted: 30 });
    await emulator.suspend();
    const first = await gateway.run({ keyId, limits: LIMITS, calls: 3, sequential: true });
    expect(first.outcomes).toEqual({ unavailable: 3 });
    const reads = await gateway.run({ keyId, limits: LIMITS, calls: 200, mayDegrade: true });
    expect(reads.outcomes).toEqual({ degraded: 10, unavailable: 190 });
    // None of them waited for the store's own deadline of seconds.
    expect(quantileMs([reads], 0.9)).toBeLessThan(2_500);

    emulator.resume();
    const admitted = await untilAdmitted(gateway, keyId);
    // The 30 from before still count, and so may the few commits whose answer was lost: over-admitted is nobody.
    const rest = await gateway.run({ keyId, limits: LIMITS, calls: 100 });
    expect(30 + admitted + (rest.outcomes.admitted ?? 0)).toBeLessThanOrEqual(100);
    expect(30 + admitted + (rest.outcomes.admitted ?? 0)).toBeGreaterThanOrEqual(95);
  });

  test('a store that is gone fails closed at once, and is used again as soon as it is back', {
    timeout: 60_000,
  }, async () => {
    await emulator.stop();
    const costly = await gateway.run({ keyId: 'gone', limits: LIMITS, calls: 50 });
    expect(costly.outcomes).toEqual({ unavailable: 50 });
    const reads = await gateway.run({ keyId: 'gone', limits: LIMITS, calls: 50, mayDegrade: true });
    expect(reads.outcomes).toEqual({ degraded: 10, unavailable: 40 });
    // It starts again empty, so that what was remembered of its documents is stale and must not matter.
    await emulator.restart();
    await untilAdmitted(gateway, 'gone');
    const after = await gateway.run({ keyId: 'gone-too', limits: LIMITS, calls: 120 });
    expect(after.outcomes).toEqual({ admitted: 100, rate_limited: 20 });
  });
});

/** Calls one at a time until the store is asked again with success; resolves to the calls admitted, which is one. */
async function untilAdmitted(gateway: LimiterProcess, keyId: string): Promise<number> {
  for (let calls = 0; calls < 200; calls++) {
    const { outcomes } = await gateway.run({ keyId, limits: LIMITS, calls: 1 });
    if (outcomes.admitted === 1) return 1;
    await sleep(50);
  }
  throw new Error('the limiter did not come back');
}
