// Turns and limits stay exact while Firestore does not answer. The emulator of this suite is suspended, killed and
// started again during the calls.
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { systemClock } from '../../../shared/clock.ts';
import type { Limit } from '../../../shared/config/values/limits.ts';
import { toLimitRef, toLimitState } from '../../../shared/rate-limit/windows/limit-document.ts';
import { createFirestoreStore } from '../../../shared/store/firestore/firestore.ts';
import { startModelProvider } from '../../support/fakes/model-provider/model-provider.ts';
import { follow, rpc, textOf, until } from '../../support/fixtures/clients/turn-client.ts';
import {
  type Emulator,
  startFirestoreEmulator,
  startPubsubEmulator,
} from '../../support/fixtures/database/emulators.ts';
import { startLocalGateway } from '../../support/fixtures/gateway/local-gateway.ts';
import { type LimiterProcess, startLimiterProcess } from '../../support/fixtures/limiter/limiter-processes.ts';
import { type FaultProxy, startFaultProxy } from '../../support/fixtures/network/fault-proxy.ts';
import { describeWith } from '../../support/requirements.ts';

const LIMITS: readonly Limit[] = [{ max: 100, windowMs: 86_400_000 }];
const keyId = 'outage';
const projectId = 'rate-limit-outage';

describeWith('emulators', 'while Firestore does not answer', () => {
  let emulator: Emulator;
  beforeAll(async () => {
    emulator = await startFirestoreEmulator();
  });
  afterAll(() => emulator.stop());

  test('a turn whose model ends its answer during the outage loses nothing: the answer is sent and stored completely', async () => {
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

  test('a gateway answers 503 in a black hole, and is well again within 40 s after the network is', {
    timeout: 120_000,
  }, async () => {
    const pubsub = await startPubsubEmulator();
    const network = [await startFaultProxy(emulator.host), await startFaultProxy(pubsub.host)] as const;
    const gateway = await startLocalGateway({
      env: {
        FIRESTORE_EMULATOR_HOST: network[0].host,
        PUBSUB_EMULATOR_HOST: network[1].host,
        GOOGLE_CLOUD_PROJECT: 'black-hole',
        METADATA_SERVER_DETECTION: 'none',
        GATEWAY_API_KEY: 'dev-key',
        MODEL: 'offline/echo',
      },
    });
    const headers = { 'x-api-key': 'dev-key' };
    const health = async (): Promise<unknown> =>
      (await fetch(`${gateway.url}/health?verbose=1`, { headers })).json().catch(String);
    const prompt = () => rpc(gateway.url, 'conversation.prompt', { prompt: 'Hello', session_id: 's' });
    const publish = async (n: number): Promise<unknown> => {
      const body = JSON.stringify({ event: 'build.done', timestamp: '2026-01-01T00:00:00Z', data: { n } });
      return (await fetch(`${gateway.url}/webhook`, { method: 'POST', headers, body })).json();
    };
    await until(prompt, (answer) => answer.result !== undefined);
    await expect.poll(() => publish(1), { timeout: 30_000 }).toMatchObject({ status: 'accepted' });
    for (const proxy of network) proxy.blackHole(true);
    for (let n = 0; n < 4; n++) expect(await prompt()).toMatchObject({ error: { code: 503 } });
    expect(await publish(2)).toMatchObject({ error: { code: 503 } });
    expect(await health()).toMatchObject({ checks: { store: { status: 'failed' }, bus: { status: 'failed' } } });
    for (const proxy of network) proxy.blackHole(false);
    const within = { timeout: 40_000 };
    await expect.poll(async () => (await prompt()).result?.content, within).toContain('Hello');
    await expect.poll(health, within).toMatchObject({ status: 'healthy' });
    await expect.poll(() => publish(3), within).toMatchObject({ status: 'accepted' });
    await gateway.stop();
    await Promise.all([...network.map((proxy) => proxy.stop()), pubsub.stop()]);
  });

  describe('limiter', () => limiterTests(() => emulator));
});

function limiterTests(get: () => Emulator): void {
  let emulator: Emulator;
  let proxy: FaultProxy;
  let gateway: LimiterProcess;

  beforeAll(async () => {
    emulator = get();
    proxy = await startFaultProxy(emulator.host);
    gateway = await startLimiterProcess(proxy.host, { projectId });
  });
  afterAll(async () => {
    await gateway.stop();
    await proxy.stop();
  });

  test('a store that does not answer is an outage within seconds, never a 429, calls stop waiting for it, and the limit stays exact', {
    timeout: 60_000,
  }, async () => {
    expect((await gateway.run({ keyId, limits: LIMITS, calls: 30 })).outcomes).toEqual({ admitted: 30 });
    proxy.drop('requests');
    const first = await gateway.run({ keyId, limits: LIMITS, calls: 3, sequential: true });
    expect(first.outcomes).toEqual({ unavailable: 3 });
    // One after the other: if each waited for the store, they would exceed the timeout of the test.
    const reads = await gateway.run({ keyId, limits: LIMITS, calls: 200, mayDegrade: true, sequential: true });
    expect(reads.outcomes).toEqual({ degraded: 10, unavailable: 190 });

    proxy.pass();
    await untilAdmitted(gateway, keyId);
    // Of the 30 before, and of each commit since then; a slow machine may lose the response of one.
    const counted = await storedCount(emulator.host, keyId);
    expect(counted).toBeGreaterThanOrEqual(31);
    const rest = await gateway.run({ keyId, limits: LIMITS, calls: 100 });
    expect(rest.outcomes).toEqual({ admitted: 100 - counted, rate_limited: counted });
  });

  test('an unreachable store fails calls at once, and is used again as soon as it can be reached', {
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

/** Calls one at a time until the store admits one. */
async function untilAdmitted(gateway: LimiterProcess, keyId: string): Promise<void> {
  const outcomes = async () => (await gateway.run({ keyId, limits: LIMITS, calls: 1 })).outcomes;
  await expect.poll(outcomes).toEqual({ admitted: 1 });
}

/** Calls in the stored window of a key. */
async function storedCount(emulatorHost: string, keyId: string): Promise<number> {
  const store = createFirestoreStore({ projectId, emulatorHost, clock: systemClock });
  const [snapshot] = await store.get([toLimitRef(keyId)]);
  await store.close();
  return toLimitState(snapshot).windows[0]?.count ?? 0;
}
