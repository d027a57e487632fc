// The tool that edits the keys of a secret loses no key, also when two operators use it at once. It runs the real
// client library against a small Secret Manager, which an instance reads.
import { createHash } from 'node:crypto';
import { afterAll, afterEach, describe, expect, it, vi } from 'vitest';
import { createApiKey, isCreatedKey } from '../../../../shared/auth/keys/create-api-key.ts';
import { addKey, listKeys, revokeKey } from '../../../../shared/auth/keys/edit-secret.ts';
import { createSecretManagerKeys } from '../../../../shared/auth/keys/secret-manager.ts';
import { connectSecret, type SecretVersions } from '../../../../shared/auth/keys/secret-versions.ts';
import { createLogger } from '../../../../shared/log.ts';
import { startFakeSecretManager } from '../../../support/fakes/secret-manager.ts';

// The client would otherwise look for a metadata server to find its universe.
vi.stubEnv('METADATA_SERVER_DETECTION', 'none');
afterAll(() => vi.unstubAllEnvs());
const SECRET = 'projects/p/secrets/gateway-api-key';
const stops: (() => void)[] = [];
afterEach(() => {
  for (const stop of stops.splice(0)) stop();
});

async function start() {
  const fake = await startFakeSecretManager({ secret: SECRET });
  const secret = await connectSecret(SECRET, fake.clientOptions);
  stops.push(() => {
    secret.close();
    fake.stop();
  });
  /** The id of a key as an instance that starts now accepts it. */
  const idOf = async (key: string): Promise<string | undefined> => {
    const log = createLogger({ format: 'json', write: () => {} });
    const { clientOptions } = fake;
    const keys = createSecretManagerKeys({ projectId: 'p', clock: { monotonic: () => 0 }, log, clientOptions });
    return (await keys.find(createHash('sha256').update(key).digest()))?.id;
  };
  const enabled = async (): Promise<number> => (await secret.listEnabled()).length;
  return { fake, secret, idOf, enabled };
}

/** The same versions, where the outcome of a disable does not arrive. `isDone`: it takes effect. */
function withLostOutcome(secret: SecretVersions, isDone: boolean): SecretVersions {
  return {
    ...secret,
    async disable(version) {
      if (isDone) await secret.disable(version);
      throw Object.assign(new Error('deadline exceeded'), { code: 4 });
    },
  };
}

/** The same versions, with a change by another operator between the read and the commit of this one. */
function withChangeBetween(secret: SecretVersions, change: () => Promise<unknown>): SecretVersions {
  let isFirst = true;
  return {
    ...secret,
    async add(payload) {
      if (isFirst) {
        isFirst = false;
        await change();
      }
      return secret.add(payload);
    },
  };
}

describe('the tool that adds keys', () => {
  it('adding a key makes one that instances accept, beside the bare key that was there, which stays as it is', async () => {
    const { fake, secret, idOf, enabled } = await start();
    fake.add('bare-key\n');
    const app = await addKey(secret, { id: 'app', scopes: ['conversation'], limits: '5/minute' });
    const ops = await addKey(secret, { id: 'ops', expiresAt: '2030-01-31T00:00:00Z' });
    expect(isCreatedKey(app)).toBe(true);
    expect(await Promise.all(['bare-key', app, ops].map(idOf))).toEqual(['default', 'app', 'ops']);
    // The second document has replaced the first one.
    expect(await enabled()).toBe(2);
    const rows = (await listKeys(secret)).flatMap((row) => ('key' in row ? [row] : []));
    expect(rows.map(({ version, key: { id, scopes, limits } }) => [version, id, scopes.size, limits])).toEqual([
      [3, 'app', 1, [{ max: 5, windowMs: 60_000 }]],
      [3, 'ops', 7, undefined],
      [1, 'default', 7, undefined],
    ]);
  });

  it('adding a key stores its digest only, and keeps unknown members of a document', async () => {
    const { fake, secret } = await start();
    fake.add('{"keys":[{"id":"a","key":"first","note":"kept"}],"owner":"kept"}');
    const key = await addKey(secret, { id: 'b' });
    const stored = Buffer.from(await secret.access(`${SECRET}/versions/2`)).toString();
    expect(stored).not.toContain(key);
    expect(JSON.parse(stored)).toEqual({
      owner: 'kept',
      keys: [
        { id: 'a', key: 'first', note: 'kept' },
        { id: 'b', sha256: createHash('sha256').update(key).digest('hex') },
      ],
    });
  });

  it('the tool that adds keys loses no key when two operators change the document at once', async () => {
    const { fake, secret, idOf, enabled } = await start();
    fake.add('{"keys":[{"id":"a","key":"first"}]}');
    let theirs = '';
    const between = withChangeBetween(secret, async () => {
      theirs = await addKey(secret, { id: 'theirs' });
    });
    const ours = await addKey(between, { id: 'ours' });
    expect(await Promise.all(['first', theirs, ours].map(idOf))).toEqual(['a', 'theirs', 'ours']);
    expect(await enabled()).toBe(1);
  });

  it('the tool that adds keys does not bring a key back that another operator revokes at the same time', async () => {
    const { fake, secret, idOf } = await start();
    fake.add('{"keys":[{"id":"a","key":"first"},{"id":"gone","key":"revoked"}]}');
    const ours = await addKey(
      withChangeBetween(secret, () => revokeKey(secret, 'gone')),
      { id: 'ours' },
    );
    expect(await Promise.all(['first', 'revoked', ours].map(idOf))).toEqual(['a', undefined, 'ours']);
  });

  it.each([true, false])(
    'the tool that adds keys loses no key when the outcome of its commit does not arrive (done: %s)',
    async (isDone) => {
      const { fake, secret, idOf, enabled } = await start();
      fake.add('{"keys":[{"id":"a","key":"first"}]}');
      await expect(addKey(withLostOutcome(secret, isDone), { id: 'ours' })).rejects.toThrow(
        'version 2 has been added, but it is unknown whether version 1 was disabled',
      );
      expect([await idOf('first'), await enabled()]).toEqual(['a', isDone ? 1 : 2]);
    },
  );

  it('adding a key refuses the fifty-first enabled version with a message about what to do', async () => {
    const { fake, secret, enabled } = await start();
    for (let version = 1; version <= 50; version++) fake.add(`key-${version}`);
    await expect(addKey(secret, { id: 'app' })).rejects.toThrow(
      'the secret has 50 enabled versions, and instances use 50: disable versions that are no longer needed',
    );
    expect(await enabled()).toBe(50);
  });

  it('the tool that adds keys starts a second document where the first one would be larger than Secret Manager stores', async () => {
    const { fake, secret, idOf, enabled } = await start();
    const many = Array.from({ length: 850 }, (_, index) => ({
      id: `a-${index}`,
      key: `first-${'x'.repeat(50)}${index}`,
    }));
    fake.add(JSON.stringify({ keys: many }));
    const key = await addKey(secret, { id: 'app' });
    expect(await Promise.all([key, many[0]?.key ?? ''].map(idOf))).toEqual(['app', 'a-0']);
    expect(await enabled()).toBe(2);
  });

  it.each([
    [{ id: 'a:b' }, 'without ":"'],
    [{ id: 'a', scopes: ['everything'] }, 'is none of conversation, workspace'],
    [{ id: 'a', limits: 'many' }, 'limits: must be like 100/minute'],
    [{ id: 'a', expiresAt: 'tomorrow' }, 'is not of the required form'],
  ])('adding the key %j is refused and adds no version', async (entry, message) => {
    const { secret, enabled } = await start();
    await expect(addKey(secret, entry)).rejects.toThrow(message);
    expect(await enabled()).toBe(0);
  });
});

describe('the tool that revokes keys', () => {
  it('revoking removes every key of an id from every version, bare keys too', async () => {
    const { fake, secret, idOf } = await start();
    fake.add('bare-key');
    fake.add('{"keys":[{"id":"app","key":"k1"},{"id":"default","key":"k2"}]}');
    fake.add('{"keys":[{"id":"app","key":"k3"}]}');
    expect(await revokeKey(secret, 'default')).toBe(2);
    expect(await Promise.all(['bare-key', 'k1', 'k2', 'k3'].map(idOf))).toEqual([undefined, 'app', undefined, 'app']);
  });

  it('revoking removes one of two keys of an id by the first digits of its digest', async () => {
    const { fake, secret, idOf } = await start();
    fake.add('{"keys":[{"id":"app","key":"old"},{"id":"app","key":"new"}]}');
    expect(await revokeKey(secret, 'app', createHash('sha256').update('old').digest('hex').slice(0, 12))).toBe(1);
    expect(await Promise.all(['old', 'new'].map(idOf))).toEqual([undefined, 'app']);
  });

  it.each([true, false])('revoking finishes when it is run again after a lost outcome (done: %s)', async (isDone) => {
    const { fake, secret, idOf } = await start();
    fake.add('{"keys":[{"id":"a","key":"first"},{"id":"app","key":"k1"}]}');
    await expect(revokeKey(withLostOutcome(secret, isDone), 'app')).rejects.toThrow('it is unknown whether');
    expect(await revokeKey(secret, 'app')).toBe(isDone ? 0 : 1);
    expect(await Promise.all(['first', 'k1'].map(idOf))).toEqual(['a', undefined]);
  });

  it('revoking the last valid key is refused', async () => {
    const { fake, secret, idOf } = await start();
    fake.add('{"keys":[{"id":"app","key":"only"}]}');
    await expect(revokeKey(secret, 'app')).rejects.toThrow('this would leave no valid key: add another key first');
    expect(await idOf('only')).toBe('app');
  });
});

it('a created key has a checksum that finds a mistyped character', () => {
  const key = createApiKey();
  expect(key).toMatch(/^cgw_[0-9A-Za-z]{38}$/);
  expect(isCreatedKey(key)).toBe(true);
  const other = key.charAt(10) === 'x' ? 'y' : 'x';
  expect(isCreatedKey(`${key.slice(0, 10)}${other}${key.slice(11)}`)).toBe(false);
});
