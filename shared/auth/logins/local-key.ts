// Wraps data keys with a local key: in a file that only its owner may read, or in memory when the store is in memory
// too. For one machine only; a deployment uses Cloud KMS (kms.ts).
import { createHash, randomBytes } from 'node:crypto';
import { link, open, readFile, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { codeOf, RpcError } from '../../errors.ts';
import { makeDirectory } from '../../make-directory.ts';
import { decrypt, encrypt, type KeyWrapper } from './envelope.ts';

const KEY_BYTES = 32;
const CREATED_AT_MOST = 2;

/** A random key that exists only in this object. */
export function createMemoryKeyWrapper(): KeyWrapper {
  const key = randomBytes(KEY_BYTES);
  return createWrapper(async () => key);
}

/**
 * The key in the file at `path`. The first use creates the file with mode 0600, exactly once and completely, also if
 * several processes start at the same time.
 */
export function createFileKeyWrapper(path: string): KeyWrapper {
  let reading: Promise<Buffer> | undefined;
  return createWrapper(() => {
    reading ??= readOrCreate(path).catch((cause: unknown) => {
      reading = undefined;
      throw new RpcError('unavailable', { message: 'the encryption key of logins cannot be read', cause });
    });
    return reading;
  });
}

function createWrapper(loadKey: () => Promise<Buffer>): KeyWrapper {
  return {
    async wrap(dataKey, aad, signal) {
      const key = await loadKey();
      signal.throwIfAborted();
      return { keyName: nameOf(key), wrapped: encrypt(key, dataKey, aad) };
    },
    async unwrap({ keyName, wrapped }, aad, signal) {
      const key = await loadKey();
      signal.throwIfAborted();
      return keyName === nameOf(key) ? decrypt(key, wrapped, aad) : undefined;
    },
  };
}

/** Id of a key: 64 bits of a hash, which reveal nothing about the 256 random bits of the key. */
function nameOf(key: Buffer): string {
  return `local:${createHash('sha256').update('name:').update(key).digest('hex').slice(0, 16)}`;
}

async function readOrCreate(path: string): Promise<Buffer> {
  for (let created = 0; ; created++) {
    try {
      const key = await readFile(path);
      if (key.length !== KEY_BYTES) throw new Error(`the key file is not ${KEY_BYTES} bytes long`);
      return key;
    } catch (error) {
      if (codeOf(error) !== 'ENOENT' || created === CREATED_AT_MOST) throw error;
    }
    await create(path);
  }
}

/**
 * Writes a temporary file and links it to `path`: the file is complete for every reader, and the first process wins.
 */
async function create(path: string): Promise<void> {
  await makeDirectory(dirname(path));
  const draft = `${path}.${randomBytes(8).toString('hex')}`;
  const file = await open(draft, 'wx', 0o600);
  try {
    await file.writeFile(randomBytes(KEY_BYTES));
    await file.sync();
    await link(draft, path);
  } catch (error) {
    if (codeOf(error) !== 'EEXIST') throw error;
  } finally {
    await file.close();
    await rm(draft, { force: true });
  }
}
