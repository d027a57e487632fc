// Tokens of invokers are verified as Cloud Run forwards them: with their signature, or without it where Cloud Run has
// checked the invoker.
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createInvokerVerifier } from '../../../shared/auth/invoker.ts';
import { KEY_ID, signIdToken } from '../../support/fakes/google-id-token.ts';
import { createFixture } from '../../support/fixtures/webhooks/webhooks.ts';

const AUDIENCE = 'https://deployments-1.us-central1.run.app';
const PUSH = 'gateway-push@project.iam.gserviceaccount.com';
const SWEEPER = 'gateway-sweeper@project.iam.gserviceaccount.com';
const CHECKER = 'service-1@gcp-sa-monitoring-notification.iam.gserviceaccount.com';
const google = generateKeyPairSync('rsa', { modulusLength: 2048 });
let certificates: Server;
let certificatesUrl: string;

beforeAll(async () => {
  certificates = createServer((_, res) => {
    res.writeHead(200, { 'Content-Type': 'application/json', 'Cache-Control': 'public, max-age=3600' });
    res.end(JSON.stringify({ [KEY_ID]: google.publicKey.export({ type: 'spki', format: 'pem' }) }));
  }).listen(0, '127.0.0.1');
  await once(certificates, 'listening');
  certificatesUrl = `http://127.0.0.1:${(certificates.address() as AddressInfo).port}/certs`;
});
afterAll(() => certificates.close());

const signed = (claims: object = {}): string => `Bearer ${signIdToken(google.privateKey, AUDIENCE, PUSH, claims)}`;
/** As Cloud Run leaves a token that it has verified. Anyone can write this text. */
const stripped = (claims: object = {}): string => signed(claims).replace(/[^.]+$/, 'SIGNATURE_REMOVED_BY_GOOGLE');
const verify = (headersDistinct: NodeJS.Dict<string[]>, isChecked: boolean): Promise<void> =>
  createInvokerVerifier({ audience: AUDIENCE, emails: [PUSH], isChecked }, { certificatesUrl }).verify({
    headersDistinct,
  });
const refused = { reason: 'unauthorized' };

describe('a token whose signature Cloud Run has removed', () => {
  it('a token whose signature Cloud Run has removed is accepted where Cloud Run checks the invoker, in either header', async () => {
    await expect(verify({ authorization: [stripped()] }, true)).resolves.toBeUndefined();
    await expect(verify({ 'x-serverless-authorization': [stripped()] }, true)).resolves.toBeUndefined();
  });

  it('a token whose signature Cloud Run has removed is refused where allUsers may invoke the service', async () => {
    await expect(verify({ authorization: [stripped()] }, false)).rejects.toMatchObject(refused);
    await expect(verify({ 'x-serverless-authorization': [stripped()] }, false)).rejects.toMatchObject(refused);
  });

  const seconds = Math.floor(Date.now() / 1_000);
  it.each([
    ['another audience', stripped({ aud: 'https://webhook-1.us-central1.run.app' })],
    ['another account', stripped({ email: SWEEPER })],
    ['an address that is not verified', stripped({ email_verified: false })],
    ['no address', stripped({ email: undefined })],
    ['another issuer', stripped({ iss: 'https://evil.example.com' })],
    ['an expiry long ago', stripped({ exp: seconds - 3_600 })],
    ['no expiry', stripped({ exp: undefined })],
    ['claims that are no JSON', 'Bearer a.b.SIGNATURE_REMOVED_BY_GOOGLE'],
    ['a part too many', stripped().replace('.SIGNATURE', '.x.SIGNATURE')],
    ['another scheme', stripped().replace('Bearer', 'Basic')],
    ['unreasonable length', `Bearer a.${'a'.repeat(9_000)}.SIGNATURE_REMOVED_BY_GOOGLE`],
  ])('a token whose signature Cloud Run has removed is refused when it has %s', async (_, authorization) => {
    await expect(verify({ authorization: [authorization] }, true)).rejects.toMatchObject(refused);
  });

  it('a token whose signature Cloud Run has removed is refused beside another token, which is the one that Cloud Run has checked', async () => {
    const checked = stripped({ email: SWEEPER });
    const forged = stripped();
    const headers = { authorization: [forged], 'x-serverless-authorization': [checked] };
    await expect(verify(headers, true)).rejects.toMatchObject(refused);
    await expect(verify({ authorization: [forged, checked] }, true)).rejects.toMatchObject(refused);
    await expect(verify({ authorization: [checked, forged] }, true)).rejects.toMatchObject(refused);
  });
});

/** With another signature. Its last character has unused bits, so the first one is replaced. */
const forged = (token: string): string =>
  token.replace(/\.([^.])([^.]*)$/, (_, first: string, rest: string) => `.${first === 'A' ? 'B' : 'A'}${rest}`);

describe('a token with its signature', () => {
  it('a token with its signature is verified, whether or not Cloud Run checks the invoker', async () => {
    for (const isChecked of [true, false]) {
      await expect(verify({ authorization: [signed()] }, isChecked)).resolves.toBeUndefined();
      await expect(verify({ authorization: [forged(signed())] }, isChecked)).rejects.toMatchObject(refused);
      await expect(verify({}, isChecked)).rejects.toMatchObject(refused);
    }
  });
});

describe('the deployments function', () => {
  const env = {
    ...{ K_SERVICE: 'deployments', GATEWAY_API_KEY: 'a-key-of-the-invoker-test' },
    ...{ PUSH_AUDIENCE: AUDIENCE, PUSH_SERVICE_ACCOUNT: PUSH, SWEEP_SERVICE_ACCOUNT: SWEEPER },
    UPTIME_SERVICE_ACCOUNT: CHECKER,
  };

  it('only Pub/Sub may push and only Cloud Scheduler may sweep, without a signature only behind the invoker check', async () => {
    for (const check of ['iam', 'none']) {
      const fixture = await createFixture({ ...env, PUSH_INVOKER_CHECK: check });
      try {
        const url = await fixture.listen({ certificatesUrl });
        const post = (path: string, authorization: string) =>
          fetch(url + path, { method: 'POST', headers: { authorization }, body: '{}' }).then(({ status }) => status);
        expect(await post('/deployments/sweep', signed({ email: SWEEPER }))).toBe(200);
        expect(await post('/deployments/sweep', stripped({ email: SWEEPER }))).toBe(check === 'iam' ? 200 : 401);
        expect(await post('/deployments/sweep', stripped())).toBe(401);
        // After the token, the body is read.
        expect(await post('/deployments', stripped())).toBe(check === 'iam' ? 400 : 401);
        expect(await post('/deployments', stripped({ email: SWEEPER }))).toBe(401);
        // The webhook function has callers that Cloud Run does not check.
        expect(await post('/webhook/sweep', stripped())).toBe(401);
      } finally {
        await fixture.close();
      }
    }
  });

  it('uptime checks are answered with the state of the database, and other accounts are refused', async () => {
    const fixture = await createFixture({ ...env, PUSH_INVOKER_CHECK: 'iam' });
    try {
      const url = await fixture.listen({ certificatesUrl });
      const check = (authorization: string) =>
        fetch(`${url}/deployments/health`, { headers: { authorization } }).then(async (res) => [
          res.status,
          await res.json(),
        ]);
      expect(await check(stripped({ email: CHECKER }))).toEqual([200, { status: 'healthy' }]);
      for (const token of [
        stripped(),
        stripped({ email: SWEEPER }),
        stripped({ email: CHECKER, aud: 'https://x' }),
        '',
      ]) {
        expect((await check(token))[0]).toBe(401);
      }
      fixture.store.state = 'down';
      expect(await check(stripped({ email: CHECKER }))).toMatchObject([
        503,
        { error: { data: { reason: 'unavailable' } } },
      ]);
    } finally {
      await fixture.close();
    }
  });
});
