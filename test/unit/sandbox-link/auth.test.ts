// Only a caller with the shared secret or a valid ID token may connect to the sandbox service, decided from the headers
// alone.
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createCallerCheck } from '../../../shared/sandbox-link/auth.ts';
import { createLinkHeaders } from '../../../shared/sandbox-link/client/credentials.ts';
import { KEY_ID, signIdToken } from '../../support/fakes/google-id-token.ts';

describe('a shared secret', () => {
  const token = 'a-shared-secret-of-32-characters';
  const check = createCallerCheck({ token });

  it('a shared secret is accepted as the gateway sends it', async () => {
    const { Authorization } = await createLinkHeaders({ url: 'http://127.0.0.1', token })(new AbortController().signal);
    await expect(check({ authorization: Authorization })).resolves.toBeUndefined();
    await expect(check({ authorization: `bearer  ${token} ` })).resolves.toBeUndefined();
  });

  it.each<readonly [string, IncomingHttpHeaders]>([
    ['nothing', {}],
    ['an empty header', { authorization: '' }],
    ['no token', { authorization: 'Bearer ' }],
    ['another token', { authorization: 'Bearer b-shared-secret-of-32-characters' }],
    ['the beginning of the token', { authorization: `Bearer ${token.slice(0, -1)}` }],
    ['more than the token', { authorization: `Bearer ${token}x` }],
    ['another scheme', { authorization: `Basic ${token}` }],
    ['the token without a scheme', { authorization: token }],
    ['the token in another header', { 'x-api-key': token }],
    ['the token in the header of the invoker check', { 'x-serverless-authorization': `Bearer ${token}` }],
  ])('a shared secret is refused when the request has %s', async (_, headers) => {
    await expect(check(headers)).rejects.toMatchObject({ reason: 'unauthorized' });
  });
});

describe('an ID token', () => {
  const AUDIENCE = 'https://sandbox.example.com';
  const CALLERS = ['companion@project.iam.gserviceaccount.com', 'other@project.iam.gserviceaccount.com'] as const;
  const google = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const foreign = generateKeyPairSync('rsa', { modulusLength: 2048 });
  let certificates: Server;
  let check: ReturnType<typeof createCallerCheck>;

  beforeAll(async () => {
    certificates = createServer((_, res) => {
      res.writeHead(200, { 'Content-Type': 'application/json', 'Cache-Control': 'public, max-age=3600' });
      res.end(JSON.stringify({ [KEY_ID]: google.publicKey.export({ type: 'spki', format: 'pem' }) }));
    }).listen(0, '127.0.0.1');
    await once(certificates, 'listening');
    const { port } = certificates.address() as AddressInfo;
    const options = { certificatesUrl: `http://127.0.0.1:${port}/certs` };
    check = createCallerCheck({ audience: AUDIENCE, callers: CALLERS }, options);
  });
  afterAll(() => certificates.close());

  const sign = (claims: object = {}, key = google.privateKey): string =>
    `Bearer ${signIdToken(key, AUDIENCE, CALLERS[0], claims)}`;
  /** As Cloud Run's invoker check leaves a token that it has verified. */
  const stripped = (token: string): string => token.replace(/[^.]+$/, 'SIGNATURE_REMOVED_BY_GOOGLE');

  it.each(CALLERS)('an ID token of %s is accepted', async (email) => {
    await expect(check({ authorization: sign({ email }) })).resolves.toBeUndefined();
  });

  it.each<readonly [string, () => IncomingHttpHeaders]>([
    ['no Authorization', () => ({ 'x-serverless-authorization': sign() })],
    ['no signature', () => ({ authorization: stripped(sign()), 'x-serverless-authorization': sign() })],
  ])('an ID token is read from X-Serverless-Authorization where there is %s', async (_, headers) => {
    await expect(check(headers())).resolves.toBeUndefined();
  });

  const seconds = Math.floor(Date.now() / 1_000);
  it.each<readonly [string, () => IncomingHttpHeaders]>([
    ['missing', () => ({})],
    ['without a signature', () => ({ authorization: stripped(sign()) })],
    ['without a signature in both', () => ({ authorization: stripped(sign()), 'x-serverless-authorization': 'x' })],
    [
      'not valid, whatever the second header has',
      () => ({ authorization: sign({}, foreign.privateKey), 'x-serverless-authorization': sign() }),
    ],
    ['of another audience', () => ({ authorization: sign({ aud: 'https://elsewhere.example.com' }) })],
    ['of another account', () => ({ authorization: sign({ email: 'x@project.iam.gserviceaccount.com' }) })],
    ['of an address that is not verified', () => ({ authorization: sign({ email_verified: false }) })],
    ['of another issuer', () => ({ authorization: sign({ iss: 'https://evil.example.com' }) })],
    ['expired', () => ({ authorization: sign({ iat: seconds - 7_200, exp: seconds - 3_600 }) })],
    ['signed by another', () => ({ authorization: sign({}, foreign.privateKey) })],
    ['a secret', () => ({ authorization: `Bearer ${'x'.repeat(32)}` })],
  ])('an ID token is refused when it is %s', async (_, headers) => {
    await expect(check(headers())).rejects.toMatchObject({ reason: 'unauthorized' });
  });
});
