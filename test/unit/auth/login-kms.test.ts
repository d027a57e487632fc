// The Cloud KMS adapter: the real client library over gRPC, against a small KMS.
import { randomBytes } from 'node:crypto';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { open, seal } from '../../../shared/auth/envelope.ts';
import { createKmsKeyWrapper, type KmsOptions } from '../../../shared/auth/kms.ts';
import { type FakeKms, startFakeKms } from '../../fakes/kms.ts';

// The client would otherwise look for a metadata server to learn its universe.
vi.stubEnv('METADATA_SERVER_DETECTION', 'none');

const KEY = 'projects/p/locations/global/keyRings/gateway/cryptoKeys/logins';
const OTHER = 'projects/p/locations/global/keyRings/gateway/cryptoKeys/other';
const aad = Buffer.from('owner and session');
const { signal } = new AbortController();
const started: FakeKms[] = [];
afterEach(() => {
  for (const kms of started.splice(0)) kms.stop();
});

async function start(options: Partial<KmsOptions> = {}) {
  const kms = await startFakeKms([KEY, OTHER]);
  started.push(kms);
  const make = (keyName: string) =>
    createKmsKeyWrapper({ keyName, clientOptions: kms.clientOptions, timeoutMs: 2_000, ...options });
  return { kms, make, wrapper: make(KEY) };
}

describe('Cloud KMS', () => {
  it('opens what it sealed, also for another instance and after the key was rotated', async () => {
    const { kms, make, wrapper } = await start();
    const envelope = await seal(wrapper, 'a secret', aad, signal);
    expect(JSON.stringify(envelope)).not.toContain('a secret');
    kms.rotate(KEY);
    expect(await open(make(KEY), envelope, aad, signal)).toBe('a secret');
  });

  it('sees the data key only, never the secret, and says its own name in the envelope', async () => {
    const { kms, wrapper } = await start();
    expect((await seal(wrapper, 'x'.repeat(100_000), aad, signal)).key_name).toBe(KEY);
    expect(kms.plaintexts.map((bytes) => bytes.length)).toEqual([32]);
  });

  it('does not open for other bound data, nor a key that was changed: an error, not an outage', async () => {
    const { wrapper } = await start();
    const key = await wrapper.wrap(randomBytes(32), aad, signal);
    const changed = Uint8Array.from(key.wrapped, (byte, index) => (index === 40 ? byte ^ 1 : byte));
    await expect(wrapper.unwrap(key, Buffer.from('another owner'), signal)).rejects.toThrow('KMS refused');
    await expect(wrapper.unwrap({ ...key, wrapped: changed }, aad, signal)).rejects.toThrow('KMS refused');
  });

  it('is asked about its configured key only: what another key wrapped is not here', async () => {
    const { kms, make, wrapper } = await start();
    const key = await make(OTHER).wrap(randomBytes(32), aad, signal);
    const { calls } = kms;
    expect(await wrapper.unwrap(key, aad, signal)).toBeUndefined();
    expect(kms.calls).toBe(calls);
  });

  it.each(['down', 'denied', 'hang'] as const)(
    '%s is unavailable within the deadline, and works again later',
    async (fault) => {
      const { kms, wrapper } = await start({ timeoutMs: 300 });
      const key = await wrapper.wrap(Buffer.alloc(32, 7), aad, signal);
      kms.fault = fault;
      const calls = kms.calls;
      await expect(wrapper.wrap(randomBytes(32), aad, signal)).rejects.toMatchObject({ reason: 'unavailable' });
      await expect(wrapper.unwrap(key, aad, signal)).rejects.toMatchObject({ reason: 'unavailable' });
      expect(kms.calls - calls).toBe(2);
      kms.fault = 'none';
      expect(await wrapper.unwrap(key, aad, signal)).toEqual(Buffer.alloc(32, 7));
    },
  );

  it('that cannot be connected to is unavailable', async () => {
    const { kms, wrapper } = await start({ timeoutMs: 300 });
    kms.stop();
    await expect(wrapper.wrap(randomBytes(32), aad, signal)).rejects.toMatchObject({ reason: 'unavailable' });
  });

  it('is given up when the caller leaves', async () => {
    const { kms, wrapper } = await start();
    kms.fault = 'hang';
    const controller = new AbortController();
    const pending = wrapper.wrap(randomBytes(32), aad, controller.signal);
    const reason = new Error('left');
    controller.abort(reason);
    await expect(pending).rejects.toBe(reason);
  });
});
