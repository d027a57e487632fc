// The key file of one machine is created once, completely, and only its owner can read it. An envelope opens only with
// the data to which it is bound.
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { type Envelope, open, seal } from '../../../../shared/auth/logins/envelope.ts';
import { createFileKeyWrapper, createMemoryKeyWrapper } from '../../../../shared/auth/logins/local-key.ts';

const directory = mkdtempSync(join(tmpdir(), 'login-key-'));
afterAll(() => rmSync(directory, { recursive: true }));
let count = 0;
const newPath = (): string => join(directory, String(++count), 'data', 'login.key');

const aad = Buffer.from('owner and session');
const { signal } = new AbortController();

describe('the key file', () => {
  it('any number of processes create the key file once, complete and with mode 0600, and leave no other file', async () => {
    const path = newPath();
    const wrappers = Array.from({ length: 20 }, () => createFileKeyWrapper(path));
    const envelopes = await Promise.all(wrappers.map((wrapper) => seal(wrapper, 'a secret', aad, signal)));
    const [first = createFileKeyWrapper(path)] = wrappers;
    for (const envelope of envelopes) expect(await open(first, envelope, aad, signal)).toBe('a secret');
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(statSync(path).size).toBe(32);
    expect(readdirSync(join(path, '..'))).toEqual(['login.key']);
  });

  it('the key file decrypts after a restart what was encrypted before; another key is refused with a reason', async () => {
    const path = newPath();
    const envelope = await seal(createFileKeyWrapper(path), 'a secret', aad, signal);
    expect(await open(createFileKeyWrapper(path), envelope, aad, signal)).toBe('a secret');
    expect(await open(createFileKeyWrapper(newPath()), envelope, aad, signal)).toBeUndefined();
  });

  it('the key file that is damaged is unavailable and stays as it is; once repaired it is used', async () => {
    const path = newPath();
    const envelope = await seal(createFileKeyWrapper(path), 'a secret', aad, signal);
    const whole = readFileSync(path);
    writeFileSync(path, whole.subarray(0, 31));
    const wrapper = createFileKeyWrapper(path);
    await expect(open(wrapper, envelope, aad, signal)).rejects.toMatchObject({ reason: 'unavailable' });
    expect(readFileSync(path).length).toBe(31);
    writeFileSync(path, whole);
    expect(await open(wrapper, envelope, aad, signal)).toBe('a secret');
  });

  it('the key file that cannot be made is unavailable', async () => {
    const wrapper = createFileKeyWrapper('/dev/null/data/login.key');
    await expect(seal(wrapper, 'x', aad, signal)).rejects.toMatchObject({ reason: 'unavailable' });
  });
});

describe('an envelope', () => {
  const wrapper = createMemoryKeyWrapper();

  it('an envelope is different each time, and holds neither the secret nor its data key', async () => {
    const [one, two] = await Promise.all([1, 2].map(() => seal(wrapper, 'a secret', aad, signal)));
    expect(one?.ciphertext).not.toBe(two?.ciphertext);
    expect(one?.wrapped_key).not.toBe(two?.wrapped_key);
    expect(Buffer.from(one?.ciphertext ?? '', 'base64url').toString('latin1')).not.toContain('a secret');
  });

  it('an envelope does not open for other bound data', async () => {
    const envelope = await seal(wrapper, 'a secret', aad, signal);
    await expect(open(wrapper, envelope, Buffer.from('another owner'), signal)).rejects.toThrow();
  });

  it.each(['ciphertext', 'wrapped_key'] as const)(
    'an envelope does not open when one bit of its %s was changed',
    async (field) => {
      const envelope = await seal(wrapper, 'a secret', aad, signal);
      const bytes = Buffer.from(envelope[field], 'base64url');
      for (const index of [0, 12, bytes.length - 1]) {
        const changed = Buffer.from(bytes);
        changed[index] = (changed[index] ?? 0) ^ 1;
        const forged: Envelope = { ...envelope, [field]: changed.toString('base64url') };
        await expect(open(wrapper, forged, aad, signal)).rejects.toThrow();
      }
    },
  );

  it.each(['ciphertext', 'wrapped_key'] as const)(
    'an envelope does not open when its %s was cut short',
    async (field) => {
      const envelope = await seal(wrapper, 'a secret', aad, signal);
      for (const chars of [0, 8, 30]) {
        const forged: Envelope = { ...envelope, [field]: envelope[field].slice(0, chars) };
        await expect(open(wrapper, forged, aad, signal)).rejects.toThrow();
      }
    },
  );
});
