// An ID token is accepted only if Google signed it for this audience and one of the given accounts, and only until it
// expires.
import { createSign, generateKeyPairSync } from 'node:crypto';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { createOidcVerifier } from '../../../shared/auth/oidc.ts';
import { createFixture } from '../../support/fixtures/webhooks/webhooks.ts';

const AUDIENCE = 'https://gateway.example.com/deployments';
const EMAIL = 'pusher@project.iam.gserviceaccount.com';
const google = generateKeyPairSync('rsa', { modulusLength: 2048 });
const otherKey = generateKeyPairSync('rsa', { modulusLength: 2048 });

/** The endpoint of Google's signing certificates, as the real one answers; `up: false` answers 500. */
let certificates: Server;
let certificatesUrl: string;
let fetched = 0;
let up = true;
/** The key whose certificate the endpoint has. */
let published = google.publicKey;

beforeAll(async () => {
  certificates = createServer((_, res) => {
    fetched++;
    if (!up) return void res.writeHead(500).end();
    res.writeHead(200, { 'Content-Type': 'application/json', 'Cache-Control': 'public, max-age=3600' });
    res.end(JSON.stringify({ k1: published.export({ type: 'spki', format: 'pem' }) }));
  });
  await new Promise<void>((resolve) => certificates.listen(0, '127.0.0.1', resolve));
  certificatesUrl = `http://127.0.0.1:${(certificates.address() as AddressInfo).port}/certs`;
});
afterAll(() => certificates.close());

function token(
  claims: object = {},
  key = google.privateKey,
  header: object = { alg: 'RS256', kid: 'k1', typ: 'JWT' },
): string {
  const seconds = Math.floor(Date.now() / 1000);
  const payload = {
    iss: 'https://accounts.google.com',
    aud: AUDIENCE,
    email: EMAIL,
    email_verified: true,
    sub: '1',
    iat: seconds,
    exp: seconds + 3600,
    ...claims,
  };
  const encode = (part: object): string => Buffer.from(JSON.stringify(part)).toString('base64url');
  const text = `${encode(header)}.${encode(payload)}`;
  return `Bearer ${text}.${createSign('RSA-SHA256').update(text).sign(key, 'base64url')}`;
}

const open = () => createOidcVerifier({ audience: AUDIENCE, emails: [EMAIL] }, { certificatesUrl });

describe('a token', () => {
  test('a token is accepted when Google signed it for this audience and account, with certificates fetched once', async () => {
    const verifier = open();
    const before = fetched;
    await verifier.verify(token());
    await verifier.verify(token({ sub: '2' }));
    expect(fetched - before).toBe(1);
  });

  test('a token that was accepted is refused once it has expired', async () => {
    const verifier = open();
    const authorization = token();
    vi.useFakeTimers({ toFake: ['Date'] });
    try {
      await verifier.verify(authorization);
      await verifier.verify(authorization);
      vi.setSystemTime(Date.now() + 7_200_000);
      await expect(verifier.verify(authorization)).rejects.toMatchObject({ reason: 'unauthorized' });
    } finally {
      vi.useRealTimers();
    }
  });

  test('a token that was accepted is refused when the loaded certificates no longer contain its key', async () => {
    const verifier = open();
    const seconds = Math.floor(Date.now() / 1000);
    const authorization = token({ exp: seconds + 80_000 });
    vi.useFakeTimers({ toFake: ['Date', 'performance'] });
    try {
      await verifier.verify(authorization);
      published = otherKey.publicKey;
      await verifier.verify(authorization);
      // Certificates are loaded again after the hour that the endpoint allows.
      vi.advanceTimersByTime(3_700_000);
      await expect(verifier.verify(authorization)).rejects.toMatchObject({ reason: 'unauthorized' });
    } finally {
      published = google.publicKey;
      vi.useRealTimers();
    }
  });

  test('a token that was accepted under a wrong clock is verified again when the clock is right', async () => {
    const verifier = open();
    const seconds = Math.floor(Date.now() / 1000);
    const early = token({ iat: seconds + 86_400, exp: seconds + 90_000 });
    vi.useFakeTimers({ toFake: ['Date'] });
    try {
      vi.setSystemTime(Date.now() + 86_400_000);
      await verifier.verify(early);
      vi.setSystemTime(Date.now() - 86_400_000);
      await expect(verifier.verify(early)).rejects.toMatchObject({ reason: 'unauthorized' });
      await verifier.verify(token());
    } finally {
      vi.useRealTimers();
    }
  });

  const seconds = Math.floor(Date.now() / 1000);
  test.each([
    ['another audience', token({ aud: 'https://elsewhere.example.com' })],
    ['another account', token({ email: 'other@project.iam.gserviceaccount.com' })],
    ['an address that is not verified', token({ email_verified: false })],
    ['no address', token({ email: undefined })],
    ['another issuer', token({ iss: 'https://evil.example.com' })],
    ['an expiry in the past', token({ iat: seconds - 7200, exp: seconds - 3600 })],
    ['a signature of another key', token({}, otherKey.privateKey)],
    ['an unknown key id', token({}, google.privateKey, { alg: 'RS256', kid: 'k2' })],
    ['no signature', token({}, google.privateKey, { alg: 'none', kid: 'k1' }).replace(/[^.]+$/, '')],
    ['three parts that are not a token', 'Bearer a.b.c'],
    ['another scheme', token().replace('Bearer', 'Basic')],
    ['unreasonable length', `Bearer ${'a'.repeat(9000)}.b.c`],
    ['nothing', undefined],
  ])('a token is refused when it has %s', async (_, authorization) => {
    await expect(open().verify(authorization)).rejects.toMatchObject({ reason: 'unauthorized' });
  });

  test('a token can be repeated later when the certificates cannot be had', async () => {
    up = false;
    try {
      await expect(open().verify(token())).rejects.toMatchObject({ reason: 'unavailable' });
    } finally {
      up = true;
    }
  });
});

describe('endpoints that expect a token', () => {
  const env = { PUSH_AUDIENCE: AUDIENCE, PUSH_SERVICE_ACCOUNT: EMAIL };

  test('only Cloud Scheduler may sweep and only Pub/Sub may push', async () => {
    const fixture = await createFixture(env);
    try {
      const url = await fixture.listen({ certificatesUrl });
      const post = (path: string, authorization: string) =>
        fetch(url + path, { method: 'POST', headers: { authorization }, body: '{}' }).then(({ status }) => status);
      expect(await post('/webhook/sweep', token())).toBe(200);
      expect(await post('/webhook/sweep', token({ email: 'x@y.z' }))).toBe(401);
      // Past the token, the body is looked at.
      expect(await post('/deployments', token())).toBe(400);
      expect(await post('/deployments', token({ aud: 'x' }))).toBe(401);
    } finally {
      await fixture.close();
    }
  });
});
