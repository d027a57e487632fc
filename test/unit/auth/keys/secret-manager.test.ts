// Keys in Secret Manager take effect and end within the stated times, and an outage does not refuse a valid key. The
// suite runs the real client library against a small Secret Manager with the real protocol, under a fake clock.
import { createHash } from 'node:crypto';
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest';
import { createSecretManagerKeys } from '../../../../shared/auth/keys/secret-manager.ts';
import type { ApiKey } from '../../../../shared/config/values/key-document.ts';
import { RpcError } from '../../../../shared/errors.ts';
import { createLogger } from '../../../../shared/log.ts';
import { type FakeSecretManager, startFakeSecretManager } from '../../../support/fakes/secret-manager.ts';

const digestOf = (key: string): Uint8Array => createHash('sha256').update(key).digest();
// Otherwise the client would call a metadata server for its universe domain.
vi.stubEnv('METADATA_SERVER_DETECTION', 'none');
afterAll(() => vi.unstubAllEnvs());
const stops: (() => void)[] = [];
afterEach(() => {
  for (const stop of stops.splice(0)) stop();
});

async function start(options: { pageSizeMax?: number } = {}) {
  const fake: FakeSecretManager = await startFakeSecretManager({
    secret: 'projects/p/secrets/gateway-api-key',
    ...options,
  });
  stops.push(() => fake.stop());
  const clock = {
    ms: 1_000,
    wallMs: Date.UTC(2026, 0, 1),
    monotonic: () => clock.ms,
    now: () => clock.wallMs,
  };
  const lines: string[] = [];
  const log = createLogger({ format: 'json', write: (text) => lines.push(text) });
  const keys = createSecretManagerKeys({ projectId: 'p', clock, log, clientOptions: fake.clientOptions });
  const find = async (key: string): Promise<ApiKey | undefined> => keys.find(digestOf(key));
  /** `id`, `refused` (the key is not valid) or `unavailable` (it cannot be known). */
  const outcomeOf = async (key: string): Promise<string> => {
    try {
      return (await find(key))?.id ?? 'refused';
    } catch (error) {
      if (error instanceof RpcError) return error.reason;
      throw error;
    }
  };
  const advance = (seconds: number): void => {
    clock.ms += seconds * 1000;
    clock.wallMs += seconds * 1000;
  };
  const logged = (): string => {
    log.flush();
    return lines.join('');
  };
  return { fake, clock, keys, find, outcomeOf, advance, logged };
}

describe('rotation', () => {
  it('both keys of a rotation are accepted within 5 s of adding a version, and only the new one 70 s after disabling', async () => {
    const { fake, outcomeOf, advance } = await start();
    const old = fake.add('old-key\n');
    expect(await outcomeOf('old-key')).toBe('default');

    fake.add('new-key\n');
    advance(5);
    expect(await outcomeOf('new-key')).toBe('default');
    expect(await outcomeOf('old-key')).toBe('default');

    fake.setState(old, 'DISABLED');
    advance(60);
    expect(await outcomeOf('old-key')).toBe('refused');
    expect(await outcomeOf('new-key')).toBe('default');
  });

  it('a rotated key is refused within 70 s although the wall clock has stepped back 8 hours', async () => {
    const { fake, clock, outcomeOf, advance } = await start();
    const old = fake.add('old-key');
    expect(await outcomeOf('old-key')).toBe('default');
    clock.wallMs -= 8 * 3_600_000;
    fake.add('new-key');
    fake.setState(old, 'DISABLED');
    advance(70);
    expect(await outcomeOf('old-key')).toBe('refused');
    expect(await outcomeOf('new-key')).toBe('default');
  });

  it('an old version stays valid while a newer one is disabled (`latest` is never read)', async () => {
    const { fake, outcomeOf } = await start();
    fake.add('first-key');
    fake.setState(fake.add('second-key'), 'DISABLED');
    expect(await outcomeOf('first-key')).toBe('default');
    expect(await outcomeOf('second-key')).toBe('refused');
    expect(fake.calls.accessed).toEqual(['projects/p/secrets/gateway-api-key/versions/1']);
  });

  it('a version that is enabled again is used again', async () => {
    const { fake, outcomeOf, advance } = await start();
    const version = fake.add('a-key');
    expect(await outcomeOf('a-key')).toBe('default');
    fake.setState(version, 'DISABLED');
    advance(60);
    expect(await outcomeOf('a-key')).toBe('refused');
    fake.setState(version, 'ENABLED');
    advance(5);
    expect(await outcomeOf('a-key')).toBe('default');
  });

  it('every version has its own id, scopes and limits; for a repeated key those of the newest version apply', async () => {
    const { fake, find } = await start();
    fake.add('{"keys":[{"id":"app","key":"k1","scopes":["webhook"]},{"id":"app","key":"k2","limits":"5/minute"}]}');
    fake.add('{"keys":[{"id":"app-2","key":"k1","scopes":["conversation"]}]}');
    expect(await find('k1')).toMatchObject({ id: 'app-2', scopes: new Set(['conversation']) });
    expect(await find('k2')).toMatchObject({ id: 'app', limits: [{ max: 5, windowMs: 60_000 }] });
  });

  it('all pages of a long list are read, and no more than the newest 50 versions', async () => {
    const { fake, outcomeOf, logged } = await start({ pageSizeMax: 20 });
    for (let version = 1; version <= 55; version++) fake.add(`key-${version}`);
    expect(await outcomeOf('key-55')).toBe('default');
    expect(await outcomeOf('key-6')).toBe('default');
    expect(await outcomeOf('key-5')).toBe('refused');
    expect(fake.calls).toMatchObject({ list: 3, access: 50 });
    expect(logged()).toContain('too many enabled key versions');
  });

  it('a warning is logged when the last version that can be used is enabled, and not before', async () => {
    for (const [versions, isWarned] of [
      [49, false],
      [50, true],
    ] as const) {
      const { fake, outcomeOf, logged } = await start();
      for (let version = 1; version <= versions; version++) fake.add(`key-${version}`);
      expect(await outcomeOf('key-1')).toBe('default');
      expect(logged().includes('all usable key versions are enabled')).toBe(isWarned);
    }
  });
});

describe('cost', () => {
  it('cached keys are used at once, and a version is accessed only once in its life', async () => {
    const { fake, keys, outcomeOf, advance } = await start();
    fake.add('a-key');
    await outcomeOf('a-key');
    expect(keys.find(digestOf('a-key'))).toMatchObject({ id: 'default' });
    for (let minute = 0; minute < 10; minute++) {
      advance(60);
      await outcomeOf('a-key');
    }
    expect(fake.calls).toMatchObject({ list: 11, access: 1 });
  });

  it('the versions are listed at most once per 5 s under a flood of unknown keys, for all callers together', async () => {
    const { fake, outcomeOf, advance } = await start();
    fake.add('a-key');
    await outcomeOf('a-key');
    advance(5);
    const flood = (): Promise<string[]> =>
      Promise.all(Array.from({ length: 200 }, (_, index) => outcomeOf(`guess-${index}-${Math.random()}`)));
    expect(new Set(await flood())).toEqual(new Set(['refused']));
    expect(fake.calls.list).toBe(2);
    for (let tick = 0; tick < 50; tick++) {
      await flood();
      advance(0.1);
    }
    expect(fake.calls.list).toBe(2);
    await flood();
    expect(fake.calls.list).toBe(3);
  });

  it('the first calls, at the same time, share one read', async () => {
    const { fake, outcomeOf } = await start();
    fake.add('a-key');
    expect(new Set(await Promise.all(Array.from({ length: 50 }, () => outcomeOf('a-key'))))).toEqual(
      new Set(['default']),
    );
    expect(fake.calls).toMatchObject({ list: 1, access: 1 });
  });

  it('the keys are renewed in the background before 60 s, so that a busy instance never waits', async () => {
    const { fake, keys, outcomeOf, advance } = await start();
    fake.add('a-key');
    await outcomeOf('a-key');
    advance(56);
    expect(keys.find(digestOf('a-key'))).toMatchObject({ id: 'default' });
    await expect.poll(() => fake.calls.list).toBe(2);
    await keys.ping();
    advance(30);
    expect(keys.find(digestOf('a-key'))).toMatchObject({ id: 'default' });
  });

  it('the keys are read less often when the list quota is used up, and the rate recovers', async () => {
    const { fake, outcomeOf, advance } = await start();
    fake.add('a-key');
    await outcomeOf('a-key');
    fake.fault = 'quota';
    for (let second = 0; second < 60; second++) {
      advance(1);
      await outcomeOf('unknown');
    }
    expect(fake.calls.list).toBeLessThanOrEqual(1 + 6);
    fake.fault = 'none';
    fake.add('b-key');
    advance(20);
    expect(await outcomeOf('b-key')).toBe('default');
  });
});

describe('outage', () => {
  it('cached keys are used for 10 min of an outage, then calls are unavailable until it ends', async () => {
    const { fake, outcomeOf, advance, logged } = await start();
    fake.add('a-key');
    await outcomeOf('a-key');
    fake.fault = 'down';
    for (let minute = 1; minute < 10; minute++) {
      advance(60);
      expect(await outcomeOf('a-key')).toBe('default');
    }
    expect(await outcomeOf('unknown')).toBe('unavailable');
    advance(60);
    expect(await outcomeOf('a-key')).toBe('unavailable');
    expect(logged()).toContain('could not be read');

    fake.fault = 'none';
    advance(20);
    expect(await outcomeOf('a-key')).toBe('default');
    expect(await outcomeOf('unknown')).toBe('refused');
  });

  it('a key is unavailable, not unauthorized, in an outage before the first read', async () => {
    const { fake, outcomeOf, advance, keys } = await start();
    fake.add('a-key');
    fake.fault = 'down';
    expect(await outcomeOf('a-key')).toBe('unavailable');
    await expect(async () => keys.ping()).rejects.toMatchObject({ reason: 'unavailable', retryAfterMs: 5000 });
    fake.fault = 'none';
    advance(5);
    expect(await outcomeOf('a-key')).toBe('default');
    await keys.ping();
  });

  it('one call during an outage waits for the deadline at most, and the others use the cached keys', async () => {
    const { fake, outcomeOf, advance } = await start();
    fake.add('a-key');
    await outcomeOf('a-key');
    fake.fault = 'hang';
    advance(61);
    expect(await outcomeOf('a-key')).toBe('default');
    advance(10);
    // The deadline is 5 s: if each of them waited for it, they would exceed the timeout of the test.
    for (let n = 0; n < 20; n++) expect(await outcomeOf('a-key')).toBe('default');
  });

  it('a caller that aborts does not wait any longer', async () => {
    const { fake, keys } = await start();
    fake.fault = 'hang';
    const controller = new AbortController();
    const waiting = (async () => keys.find(digestOf('a-key'), { signal: controller.signal }))();
    controller.abort(new Error('gone'));
    await expect(waiting).rejects.toThrow('gone');
  });

  it('a key that may be in a version that could not be accessed is unavailable; disabled keys are still refused', async () => {
    const { fake, outcomeOf, advance } = await start();
    const old = fake.add('old-key');
    fake.add('kept-key');
    await outcomeOf('old-key');
    fake.add('new-key');
    fake.setState(old, 'DISABLED');
    fake.fault = 'access';
    advance(60);
    expect(await outcomeOf('kept-key')).toBe('default');
    expect(await outcomeOf('new-key')).toBe('unavailable');
    expect(await outcomeOf('old-key')).toBe('unavailable');
    fake.fault = 'none';
    advance(5);
    expect(await outcomeOf('new-key')).toBe('default');
    expect(await outcomeOf('old-key')).toBe('refused');
  });
});

describe('malformed payloads', () => {
  it('malformed payloads are reported without their content and do not disable the other versions', async () => {
    const { fake, outcomeOf, advance, logged } = await start();
    fake.add('good-key');
    fake.add('{"keys":[{"id":"app","key":"LEAKED1"');
    fake.add('LEAKED2 with spaces');
    fake.add(new Uint8Array([0xff, 0xfe, 0x4c]));
    fake.add('');
    expect(await outcomeOf('good-key')).toBe('default');
    advance(60);
    expect(await outcomeOf('good-key')).toBe('default');
    const text = logged();
    expect(text).not.toContain('LEAKED');
    // Once each, not once a minute.
    expect(text.match(/malformed/g)).toHaveLength(4);
    expect(fake.calls.access).toBe(5);
  });

  it('a secret without any enabled version refuses every caller', async () => {
    const { fake, outcomeOf, logged } = await start();
    fake.setState(fake.add('a-key'), 'DESTROYED');
    expect(await outcomeOf('a-key')).toBe('refused');
    expect(logged()).toContain('no enabled version');
  });
});
