// Makes ID tokens as Google signs them for a service account, with a key of the test's own.
import { createSign, type KeyObject } from 'node:crypto';

/** Key id under which the test's certificates name the key. */
export const KEY_ID = 'k1';

/** A token for `audience` of the account `email`, valid for an hour; `claims` replace its own. */
export function signIdToken(key: KeyObject, audience: string, email: string, claims: object = {}): string {
  const seconds = Math.floor(Date.now() / 1_000);
  const payload = {
    iss: 'https://accounts.google.com',
    aud: audience,
    email,
    email_verified: true,
    sub: '1',
    iat: seconds,
    exp: seconds + 3_600,
    ...claims,
  };
  const encode = (part: object): string => Buffer.from(JSON.stringify(part)).toString('base64url');
  const text = `${encode({ alg: 'RS256', kid: KEY_ID, typ: 'JWT' })}.${encode(payload)}`;
  return `${text}.${createSign('RSA-SHA256').update(text).sign(key, 'base64url')}`;
}
