// Turns and the limiter while Firestore does not answer: an emulator of its own, suspended, killed and started again
// under the calls.
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Limit } from '../../shared/config/limits.ts';
import { type Emulator, startFirestoreEmulator } from '../support/emulators.ts';
import { startModelProvider } from '../support/fakes/model-provider.ts';
import { startLocalGateway } from '../support/local-gateway.ts';
import { describeWith } from '../support/requirements.ts';
import { type LimiterProcess, quantileMs, startLimiterProcess } from './rate-limit-processes.ts';
import { follow, rpc, textOf, until } from './turns-client.ts';

const LIMITS: readonly Limit[] = [{ max: 100, windowMs: 86_400_000 }];
const keyId = 'outage';

describeWith('emulators', 'while Firestore does not answer', () => {
  let emulator: Emulator;
  beforeAll(async () => {
    emulator = await startFirestoreEmulator();
  });
  afterAll(() => emulator.stop());

  test('a turn loses nothing when the model ends its answer meanwhile: it comes, whole and on record', async () => {
    const provider = await startModelProvider();
    const gateway = await startLocalGateway({
      env: {
        FIRESTORE_EMULATOR_HOST: emulator.host,
        GOOGLE_CLOUD_PROJECT: 'paused',
        METADATA_SERVER_DETECTION: 'none',
        GATEWAY_API_KEY: 'dev-key',
        GATEWAY_BUS: 'local',
        GATEWAY_LEASE_MS: '30000',
        GATEWAY_HEARTBEAT_MS: '1000',
        ANTHROPIC_API_KEY: 'sk-test',
        ANTHROPIC_BASE_URL: provider.url,
        MODEL: 'anthropic/claude-sonnet-4-5',
      },
    });
    const session_id = 's';
    // The first commits of an emulator that has just started may take longer than the limiter waits.
    await until(
      () => rpc(gateway.url, 'conversation.prompt', { prompt: 'warm up', session_id }),
      (answer) => answer.result !== undefined,
    );
    const requested = provider.next();
    const running = follow(gateway.url, 'conversation.prompt', { prompt: '[[chunks 60 every 50]]', session_id });
    await running.until(5);
    await emulator.suspend();
    // The events of seconds, heartbeats and the end of the turn meet a store that hangs.
    expect(await (await requested).done).toMatchObject({ by: 'server' });
    emulator.resume();
    const { result } = (await running.answer) ?? {};
    expect(result?.content).toBe(textOf(running.events));
    await until(
      () => rpc(gateway.url, 'conversation.status', { session_id }),
      (answer) => answer.result?.status !== 'running',
    );
    const { result: resumed } = await rpc(gateway.url, 'conversation.resume', { session_id });
    expect(resumed).toMatchObject({ status: 'completed', content: result?.content });
    expect(resumed?.events).toHaveLength(running.events.length);
    await gateway.stop();
    await provider.close();
  });

  describe('limiter', () => limiterTests(() => emulator));
});

function limiterTests(get: () => Emulator): void {
  let emulator: Emulator;
  let gateway: LimiterProcess;

  beforeAll(async () => {
    emulator = get();
    gateway = await startLimiterProcess(emulator.host, { projectId: 'rate-limit-outage' });
  });
  afterAll(() => gateway.stop());

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
}

/** Calls one at a time until one is admitted by the store again; resolves to the calls admitted, which is one. */
async function untilAdmitted(gateway: LimiterProcess, keyId: string): Promise<number> {
  for (let calls = 0; calls < 200; calls++) {
    const { outcomes } = await gateway.run({ keyId, limits: LIMITS, calls: 1 });
    if (outcomes.admitted === 1) return 1;
    await sleep(50);
  }
  throw new Error('the limiter did not come back');
}
