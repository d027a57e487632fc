// Creates API keys: `cgw_`, 32 random characters and a checksum, so that scanners for leaked secrets recognise a key of
// a gateway, and so that a mistyped one is found without a request.
import { randomBytes } from 'node:crypto';
import { crc32 } from 'node:zlib';

const PREFIX = 'cgw_';
const ALPHABET = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
const RANDOM_CHARS = 32;
const CHECKSUM_CHARS = 6;
/** Bytes from here on are drawn again, because the characters would not be equally likely. */
const UNBIASED = 256 - (256 % ALPHABET.length);

/** A new key of 190 random bits, 42 characters. */
export function createApiKey(): string {
  let random = '';
  while (random.length < RANDOM_CHARS) {
    for (const byte of randomBytes(RANDOM_CHARS - random.length)) {
      if (byte < UNBIASED) random += ALPHABET.charAt(byte % ALPHABET.length);
    }
  }
  return `${PREFIX}${random}${checksum(random)}`;
}

/** Whether `key` has the form and the checksum of `createApiKey`. */
export function isCreatedKey(key: string): boolean {
  const [, random, sum] = /^cgw_([0-9A-Za-z]{32})([0-9A-Za-z]{6})$/.exec(key) ?? [];
  return random !== undefined && sum === checksum(random);
}

/** CRC-32 of the random characters in base 62, most significant digit first. */
function checksum(random: string): string {
  let rest = crc32(random);
  let text = '';
  for (let digit = 0; digit < CHECKSUM_CHARS; digit++) {
    text = ALPHABET.charAt(rest % ALPHABET.length) + text;
    rest = Math.floor(rest / ALPHABET.length);
  }
  return text;
}
