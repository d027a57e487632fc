// Envelope encryption: every secret gets a data key of its own (AES-256-GCM), and only the wrapped data key is stored
// beside it. Who wraps is a port: Cloud KMS (kms.ts) or a key of this machine (local-key.ts).
import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { z } from 'zod';

/** A data key as it may be stored. */
export interface WrappedKey {
  /** Id of the key that wrapped it; not secret. */
  readonly keyName: string;
  readonly wrapped: Uint8Array;
}

/**
 * The KeyWrapper port. `aad` is bound to the wrapped key: unwrapping with another fails. Throws RpcError `unavailable`
 * when the wrapping key cannot be reached or read, the signal's reason when aborted, Error when the wrapped bytes or
 * their `aad` were changed.
 */
export interface KeyWrapper {
  wrap(dataKey: Uint8Array, aad: Uint8Array, signal: AbortSignal): Promise<WrappedKey>;
  /** Undefined: another key wrapped it, which is not here. */
  unwrap(key: WrappedKey, aad: Uint8Array, signal: AbortSignal): Promise<Uint8Array | undefined>;
}

/** Texts in base64url, so that the document is readable in a console; none of them is a secret. */
export const Envelope = z.object({ key_name: z.string(), wrapped_key: z.string(), ciphertext: z.string() });
export type Envelope = Readonly<z.output<typeof Envelope>>;

const KEY_BYTES = 32;
const NONCE_BYTES = 12;
const TAG_BYTES = 16;

/** Seals a text so that it opens only with the same `aad` and the same wrapping key. */
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

/** The text of an envelope; undefined when its wrapping key is not here any more. Errors: see KeyWrapper. */
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

/** AES-256-GCM: nonce, tag and ciphertext in one piece. A random nonce is safe here: each key meets few messages. */
export function encrypt(key: Uint8Array, plaintext: Uint8Array, aad: Uint8Array): Buffer {
  const nonce = randomBytes(NONCE_BYTES);
  const cipher = createCipheriv('aes-256-gcm', key, nonce, { authTagLength: TAG_BYTES }).setAAD(aad);
  const ciphertext = Buffer.concat([cipher.update(plaintext), cipher.final()]);
  return Buffer.concat([nonce, cipher.getAuthTag(), ciphertext]);
}

/** Throws Error for anything that `encrypt` did not make with this key and `aad`. */
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
