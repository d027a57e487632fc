// A delivery is accepted only with a valid signature over its bytes, of Standard Webhooks or of GitHub.
import { createHmac } from 'node:crypto';
import { Webhook } from 'standardwebhooks';
import { describe, expect, test } from 'vitest';
import { createSignatureVerifier } from '../../../shared/webhooks/signatures.ts';

const SECRET = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';
const OTHER = 'whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD';
const body = Buffer.from('{"event":"a","data":{}}');

/** Signed by node:crypto as the specification requires, not by the library under test. */
function signed(secret: string, payload: Uint8Array, options: { id?: string; seconds?: number } = {}) {
  const { id = 'msg_p5jXN8AQM9LWM0D4loKWxJek', seconds = Math.floor(Date.now() / 1000) } = options;
  const key = Buffer.from(secret.slice('whsec_'.length), 'base64');
  const signature = createHmac('sha256', key).update(`${id}.${seconds}.`).update(payload).digest('base64');
  return { 'webhook-id': id, 'webhook-timestamp': String(seconds), 'webhook-signature': `v1,${signature}` };
}

const refused = expect.objectContaining({ reason: 'unauthorized' });

describe('Standard Webhooks', () => {
  const verifier = createSignatureVerifier([SECRET, OTHER, 'github:text']);

  test('Standard Webhooks agree with the vector of the specification', () => {
    const signature = new Webhook(SECRET).sign(
      'msg_p5jXN8AQM9LWM0D4loKWxJek',
      new Date(1_614_265_330_000),
      '{"test": 2432232314}',
    );
    expect(signature).toBe('v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=');
    const own = signed(SECRET, Buffer.from('{"test": 2432232314}'), { seconds: 1_614_265_330 });
    expect(own['webhook-signature']).toBe(signature);
  });

  test('a signature under any of several secrets is accepted, and the secret is named', () => {
    const first = verifier.verify(signed(SECRET, body), body);
    const second = verifier.verify(signed(OTHER, body), body);
    expect(first).toEqual({ kind: 'standard', fingerprint: expect.stringMatching(/^[0-9a-f]{12}$/) });
    expect(second.fingerprint).not.toBe(first.fingerprint);
  });

  test('a header with several signatures is accepted if one is valid', () => {
    const headers = signed(OTHER, body);
    const many = `v1a,AAAA v1,${'A'.repeat(43)}= v2,x ${headers['webhook-signature']}`;
    expect(verifier.verify({ ...headers, 'webhook-signature': many }, body).kind).toBe('standard');
  });

  test.each([-299, -1, 0, 299])('a timestamp %i s from now is accepted', (offset) => {
    const seconds = Math.floor(Date.now() / 1000) + offset;
    expect(verifier.verify(signed(SECRET, body, { seconds }), body).kind).toBe('standard');
  });

  test.each([-302, -86_400, 302, 86_400])('a timestamp %i s from now is refused', (offset) => {
    const seconds = Math.floor(Date.now() / 1000) + offset;
    expect(() => verifier.verify(signed(SECRET, body, { seconds }), body)).toThrow(refused);
  });

  test('a body, id or time that differs from the signed one is refused', () => {
    const headers = signed(SECRET, body);
    expect(() => verifier.verify(headers, Buffer.from(`${body} `))).toThrow(refused);
    expect(() => verifier.verify({ ...headers, 'webhook-id': 'msg_other' }, body)).toThrow(refused);
    const later = String(Number(headers['webhook-timestamp']) + 1);
    expect(() => verifier.verify({ ...headers, 'webhook-timestamp': later }, body)).toThrow(refused);
  });

  test('an id with a full stop, which could move the border between id, time and body, is refused', () => {
    expect(() => verifier.verify(signed(SECRET, body, { id: 'a.1700000000' }), body)).toThrow(refused);
  });

  test.each([
    ['webhook-id', undefined],
    ['webhook-timestamp', undefined],
    ['webhook-timestamp', '1e9'],
    ['webhook-timestamp', '99999999999999999999'],
    ['webhook-signature', ''],
    ['webhook-signature', 'v1'],
    ['webhook-signature', 'v1,'],
    ['webhook-signature', 'v1,%%%'],
  ])('a delivery of Standard Webhooks is refused with %s = %s', (name, value) => {
    expect(() => verifier.verify({ ...signed(SECRET, body), [name]: value }, body)).toThrow(refused);
  });

  test('bytes that are no UTF-8, which the library could not distinguish, are refused', () => {
    const broken = Buffer.from([0x7b, 0xff, 0x7d]);
    expect(() => verifier.verify(signed(SECRET, broken), broken)).toThrow(
      expect.objectContaining({ reason: 'unauthorized' }),
    );
  });
});

describe('X-Hub-Signature-256', () => {
  // https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries#testing-the-webhook-payload-validation
  const verifier = createSignatureVerifier(['github:old secret', "github:It's a Secret to Everybody", SECRET]);
  const payload = Buffer.from('Hello, World!');
  const signature = 'sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17';

  test('X-Hub-Signature-256 agrees with GitHub’s vector, under the second of two secrets', () => {
    expect(verifier.verify({ 'x-hub-signature-256': signature }, payload).kind).toBe('github');
  });

  test.each([
    [signature.replace('7571', '7572')],
    [signature.slice(0, -2)],
    [signature.slice('sha256='.length)],
    [`sha1=${'0'.repeat(40)}`],
    [''],
  ])('X-Hub-Signature-256 refuses %s', (value) => {
    expect(() => verifier.verify({ 'x-hub-signature-256': value }, payload)).toThrow(refused);
  });

  test('X-Hub-Signature-256 refuses the right signature over another body', () => {
    expect(() => verifier.verify({ 'x-hub-signature-256': signature }, Buffer.from('Hello, World?'))).toThrow(refused);
  });
});

describe('secrets', () => {
  test.each([['whsec_%%%'], ['whsec_'], ['plain'], ['github:']])(
    'the invalid secret %s is refused by its position, not its value',
    (secret) => {
      const open = () => createSignatureVerifier([SECRET, secret]);
      expect(open).toThrow('webhook secret 2 must be whsec_<base64> or github:<text>');
    },
  );
});
