// The Cloud KMS adapter decrypts what it encrypted, reports each failure as an outage or an error, and recovers. The
// suite runs the real client library over gRPC against a small KMS.
import { randomBytes } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { type KeyWrapper, open, seal } from '../../../../shared/auth/logins/envelope.ts';
import { createKmsKeyWrapper, type KmsOptions } from '../../../../shared/auth/logins/kms.ts';
import { createLogins } from '../../../../shared/auth/logins/logins.ts';
import { randomIds, systemClock } from '../../../../shared/clock.ts';
import { createEmbeddedStore } from '../../../../shared/store/embedded/embedded.ts';
import type { Store } from '../../../../shared/store/store.ts';
import { type FakeKms, startFakeKms } from '../../../support/fakes/kms.ts';
import { startFaultProxy } from '../../../support/fixtures/network/fault-proxy.ts';

// Otherwise the client would call a metadata server for its universe domain.
vi.stubEnv('METADATA_SERVER_DETECTION', 'none');
afterAll(() => vi.unstubAllEnvs());

const KEY = 'projects/p/locations/global/keyRings/gateway/cryptoKeys/logins';
const OTHER = 'projects/p/locations/global/keyRings/gateway/cryptoKeys/other';
const aad = Buffer.from('owner and session');
const { signal } = new AbortController();
const started: FakeKms[] = [];
// Loading the SDK may take seconds where many tests run at once.
beforeAll(async () => {
  const { wrapper } = await start();
  await wrapper.wrap(randomBytes(32), aad, signal);
});
afterEach(() => {
  for (const kms of started.splice(0)) kms.stop();
});

async function start() {
  const kms = await startFakeKms([KEY, OTHER]);
  started.push(kms);
  const make = (options: Partial<KmsOptions> = {}) =>
    createKmsKeyWrapper({ keyName: KEY, clientOptions: kms.clientOptions, timeoutMs: 10_000, ...options });
  return { kms, make, wrapper: make() };
}

describe('Cloud KMS', () => {
  it('Cloud KMS decrypts what it encrypted, also on another instance and after the key was rotated', async () => {
    const { kms, make, wrapper } = await start();
    const envelope = await seal(wrapper, 'a secret', aad, signal);
    expect(JSON.stringify(envelope)).not.toContain('a secret');
    kms.rotate(KEY);
    expect(await open(make(), envelope, aad, signal)).toBe('a secret');
  });

  it('KMS receives the data key only, never the secret; the envelope contains the name of the KMS key', async () => {
    const { kms, wrapper } = await start();
    expect((await seal(wrapper, 'x'.repeat(100_000), aad, signal)).key_name).toBe(KEY);
    expect(kms.plaintexts.map((bytes) => bytes.length)).toEqual([32]);
  });

  it('other bound data or a changed key is an error and no outage of Cloud KMS', async () => {
    const { wrapper } = await start();
    const key = await wrapper.wrap(randomBytes(32), aad, signal);
    const changed = Uint8Array.from(key.wrapped, (byte, index) => (index === 40 ? byte ^ 1 : byte));
    await expect(wrapper.unwrap(key, Buffer.from('another owner'), signal)).rejects.toThrow('KMS refused');
    await expect(wrapper.unwrap({ ...key, wrapped: changed }, aad, signal)).rejects.toThrow('KMS refused');
  });

  it('Cloud KMS is called for its configured key only: a login that another key wrapped is not found', async () => {
    const { kms, make, wrapper } = await start();
    const key = await make({ keyName: OTHER }).wrap(randomBytes(32), aad, signal);
    const { calls } = kms;
    expect(await wrapper.unwrap(key, aad, signal)).toBeUndefined();
    expect(kms.calls).toBe(calls);
  });

  it.each(['down', 'denied'] as const)(
    'Cloud KMS that is %s is unavailable at once, without retries, and works again later',
    async (fault) => {
      const { kms, wrapper } = await start();
      const key = await wrapper.wrap(Buffer.alloc(32, 7), aad, signal);
      kms.fault = fault;
      const { calls } = kms;
      await expect(wrapper.wrap(randomBytes(32), aad, signal)).rejects.toMatchObject({ reason: 'unavailable' });
      await expect(wrapper.unwrap(key, aad, signal)).rejects.toMatchObject({ reason: 'unavailable' });
      expect(kms.calls - calls).toBe(2);
      kms.fault = 'none';
      expect(await wrapper.unwrap(key, aad, signal)).toEqual(Buffer.alloc(32, 7));
    },
  );

  it('Cloud KMS that does not answer is unavailable after the deadline', async () => {
    const { kms, make } = await start();
    kms.fault = 'hang';
    await expect(make({ timeoutMs: 300 }).wrap(randomBytes(32), aad, signal)).rejects.toMatchObject({
      reason: 'unavailable',
    });
  });

  it('a login is unavailable and not stored while Cloud KMS is down, and works afterwards', async () => {
    const { kms, wrapper } = await start();
    const store = createEmbeddedStore({ path: ':memory:', clock: systemClock });
    let writes = 0;
    const counting: Store = {
      ...store,
      commit: (...args) => {
        writes++;
        return store.commit(...args);
      },
    };
    // The provider has accepted the token already; the test is about what follows.
    const logins = createLogins({
      store: counting,
      clock: systemClock,
      ids: randomIds,
      wrapper,
      check: async () => {},
    });
    kms.fault = 'down';
    await expect(logins.login('a', 'openai', 'a-token', signal)).rejects.toMatchObject({ reason: 'unavailable' });
    expect(writes).toBe(0);
    kms.fault = 'none';
    const { sessionId } = await logins.login('a', 'openai', 'a-token', signal);
    kms.fault = 'down';
    await expect(logins.use('a', sessionId, signal)).rejects.toMatchObject({ reason: 'unavailable' });
    kms.fault = 'none';
    expect((await logins.use('a', sessionId, signal)).token()).toBe('a-token');
    await store.close();
  });

  it('Cloud KMS that cannot be connected to is unavailable', async () => {
    const { kms, make } = await start();
    kms.stop();
    await expect(make({ timeoutMs: 300 }).wrap(randomBytes(32), aad, signal)).rejects.toMatchObject({
      reason: 'unavailable',
    });
  });

  it('a dead connection is closed by its unanswered ping, and the client replaced after two missed deadlines', async () => {
    const { kms, make } = await start();
    const proxy = await startFaultProxy(`127.0.0.1:${kms.clientOptions.port}`);
    const clientOptions = { ...kms.clientOptions, port: Number(new URL(proxy.url).port) };
    const wrap = (wrapper: KeyWrapper) => wrapper.wrap(randomBytes(32), aad, signal);
    const unavailable = { reason: 'unavailable' };
    // Its deadline exceeds the timeout of the test: only the ping ends the call.
    const pinging = { 'grpc.keepalive_time_ms': 100, 'grpc.keepalive_timeout_ms': 100 };
    const pinged = make({ timeoutMs: 120_000, clientOptions: { ...clientOptions, ...pinging } });
    await wrap(pinged);
    proxy.blackHole(true);
    await expect(wrap(pinged)).rejects.toMatchObject(unavailable);
    proxy.blackHole(false);
    const replaced = make({ timeoutMs: 1_000, clientOptions });
    await wrap(replaced);
    proxy.blackHole(true);
    for (let n = 0; n < 2; n++) await expect(wrap(replaced)).rejects.toMatchObject(unavailable);
    proxy.blackHole(false);
    // The ping of the real options comes after 30 s.
    expect((await wrap(replaced)).keyName).toBe(KEY);
    await proxy.stop();
  });

  it('a call of Cloud KMS ends when its caller leaves', async () => {
    const { kms, wrapper } = await start();
    kms.fault = 'hang';
    const controller = new AbortController();
    const pending = wrapper.wrap(randomBytes(32), aad, controller.signal);
    const reason = new Error('left');
    controller.abort(reason);
    await expect(pending).rejects.toBe(reason);
  });
});
