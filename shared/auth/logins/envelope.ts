// Envelope encryption: every secret is encrypted with its own data key (AES-256-GCM), and the data key is stored with
// it, encrypted ("wrapped") by the KeyWrapper port: Cloud KMS (kms.ts) or a local key (local-key.ts).
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { z } from 'zod';

/** An encrypted data key. */
export interface WrappedKey {
  /** Id of the wrapping key; not secret. */
  readonly keyName: string;
  readonly wrapped: Uint8Array;
}

/**
 * The KeyWrapper port. `unwrap` fails unless it gets the `aad` of `wrap`. Throws RpcError `unavailable` when the
 * wrapping key cannot be reached or read, the signal's reason when aborted, Error when the wrapped bytes or `aad` were
 * changed.
 */
export interface KeyWrapper {
  wrap(dataKey: Uint8Array, aad: Uint8Array, signal: AbortSignal): Promise<WrappedKey>;
  /** Undefined: the data key was wrapped by another key, which this wrapper does not have. */
  unwrap(key: WrappedKey, aad: Uint8Array, signal: AbortSignal): Promise<Uint8Array | undefined>;
}

/** Strings in base64url, readable in the Firestore console; none of them is secret. */
export const Envelope = z.object({ key_name: z.string(), wrapped_key: z.string(), ciphertext: z.string() });
export type Envelope = Readonly<z.output<typeof Envelope>>;

const KEY_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;

/** Encrypts a text. `open` decrypts it only with the same `aad` and the same wrapping key. */
export async function seal(wrapper: KeyWrapper, text: string, aad: Uint8Array, signal: AbortSignal): Promise<Envelope> {
  const dataKey = randomBytes(KEY_BYTES);
  try {
    const { keyName, wrapped } = await wrapper.wrap(dataKey, aad, signal);
    return {
      key_name: keyName,
      wrapped_key: encode(wrapped),
      ciphertext: encode(encrypt(dataKey, Buffer.from(text), aad)),
    };
  } finally {
    dataKey.fill(0);
  }
}

/** Decrypts an envelope; undefined when its wrapping key no longer exists. Errors: see KeyWrapper. */
export async function open(
  wrapper: KeyWrapper,
  { key_name, wrapped_key, ciphertext }: Envelope,
  aad: Uint8Array,
  signal: AbortSignal,
): Promise<string | undefined> {
  const dataKey = await wrapper.unwrap({ keyName: key_name, wrapped: decode(wrapped_key) }, aad, signal);
  if (dataKey === undefined) return undefined;
  try {
    return decrypt(dataKey, decode(ciphertext), aad).toString('utf8');
  } finally {
    dataKey.fill(0);
  }
}

/**
 * AES-256-GCM; returns nonce, tag and ciphertext concatenated. A random nonce is safe because each key encrypts few
 * messages.
 */
export function encrypt(key: Uint8Array, plaintext: Uint8Array, aad: Uint8Array): Buffer {
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES }).setAAD(aad);
  const ciphertext = Buffer.concat([cipher.update(plaintext), cipher.final()]);
  return Buffer.concat([nonce, cipher.getAuthTag(), ciphertext]);
}

/** Throws Error unless `encrypt` made `sealed` with this key and `aad`. */
export function decrypt(key: Uint8Array, sealed: Uint8Array, aad: Uint8Array): Buffer {
  const nonce = sealed.subarray(0, NONCE_BYTES);
  const tag = sealed.subarray(NONCE_BYTES, NONCE_BYTES + TAG_BYTES);
  const decipher = createDecipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES }).setAAD(aad);
  decipher.setAuthTag(tag);
  return Buffer.concat([decipher.update(sealed.subarray(NONCE_BYTES + TAG_BYTES)), decipher.final()]);
}

function encode(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64url');
}

function decode(text: string): Buffer {
  return Buffer.from(text, 'base64url');
}
