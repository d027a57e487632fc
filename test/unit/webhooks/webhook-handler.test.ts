// The webhook function answers the documented requests, authenticates by key or signature, and charges the sender.
import { createHmac } from 'node:crypto';
import { once } from 'node:events';
import { connect } from 'node:net';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { RpcError } from '../../../shared/errors.ts';
import { toRecordedEvent } from '../../../shared/methods/schemas/event-schemas.ts';
import { setRevoked } from '../../../shared/rate-limit/windows/limit-document.ts';
import type { Receipt } from '../../../shared/webhooks/accept.ts';
import { toMessage } from '../../../shared/webhooks/bus/cloud-event.ts';
import { applyDeploymentEvent } from '../../../shared/webhooks/deployments.ts';
import { Events } from '../../../shared/webhooks/documents.ts';
import { listDeployments } from '../../../shared/webhooks/feed/list.ts';
import { CLAIM_MS } from '../../../shared/webhooks/outbox.ts';
import { createFixture, type Fixture, REFERENCE_EVENT } from '../../support/fixtures/webhooks/webhooks.ts';

const WHSEC = 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw';
const KEYS = {
  keys: [
    { id: 'ci', key: 'key-of-ci-000000', scopes: ['webhook'] },
    { id: 'ops', key: 'key-of-ops-00000', scopes: ['admin'] },
    { id: 'small', key: 'key-of-small-000', scopes: ['webhook'], limits: '2/day' },
  ],
};
const CI = { 'X-API-Key': 'key-of-ci-000000' };

let fixture: Fixture;
let url: string;

beforeEach(async () => {
  fixture = await createFixture({
    GATEWAY_KEYS: JSON.stringify(KEYS),
    WEBHOOK_SECRETS: `${WHSEC} github:hub-secret github:old-secret`,
  });
  fixture.local.subscribe('deployments', (event) => applyDeploymentEvent(fixture.services, event));
  url = await fixture.listen();
});
afterEach(() => fixture.close());

function post(path: string, headers: Record<string, string>, body: unknown = REFERENCE_EVENT): Promise<Response> {
  const text =
    typeof body === 'string' ? body : body instanceof Uint8Array ? new Uint8Array(body) : JSON.stringify(body);
  return fetch(url + path, { method: 'POST', headers: { 'Content-Type': 'application/json', ...headers }, body: text });
}

async function receiptOf(response: Response): Promise<Receipt> {
  return (await response.json()) as Receipt;
}

function standard(body: string, id = 'msg_1') {
  const seconds = Math.floor(Date.now() / 1000);
  const key = Buffer.from(WHSEC.slice('whsec_'.length), 'base64');
  const mac = createHmac('sha256', key).update(`${id}.${seconds}.${body}`).digest('base64');
  return { 'webhook-id': id, 'webhook-timestamp': `${seconds}`, 'webhook-signature': `v1,${mac}` };
}

function github(body: string, secret = 'hub-secret') {
  return { 'X-Hub-Signature-256': `sha256=${createHmac('sha256', secret).update(body).digest('hex')}` };
}

describe('POST /webhook', () => {
  test('the documented request gets the documented response, at both of its paths', async () => {
    const response = await post('/webhook', CI);
    expect(response.status).toBe(200);
    const receipt = await receiptOf(response);
    expect(receipt).toEqual({
      status: 'accepted',
      event_id: expect.any(String),
      message_id: expect.stringMatching(/^local-/),
      duplicate: false,
    });
    const again = await post('/', CI);
    expect([again.status, await again.json()]).toEqual([200, { ...receipt, duplicate: true }]);
  });

  test('a delivery is answered 202 queued while the bus is down', async () => {
    fixture.wire.up = false;
    const response = await post('/webhook', CI);
    expect(response.status).toBe(202);
    expect(await response.json()).toMatchObject({ status: 'queued', message_id: null, duplicate: false });
  });

  test('a delivery is answered 503 with Retry-After while the store is down', async () => {
    await post('/webhook', CI, { event: 'warm' });
    fixture.store.state = 'down';
    const response = await post('/webhook', CI);
    expect(response.status).toBe(503);
    expect(Number(response.headers.get('retry-after'))).toBeGreaterThan(0);
    expect(await response.json()).toMatchObject({ error: { code: 503, data: { reason: 'unavailable' } } });
  });

  test('a request without credentials is refused before its body is sent', async () => {
    const { hostname, port } = new URL(url);
    const socket = connect(Number(port), hostname);
    await once(socket, 'connect');
    socket.write('POST /webhook HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n');
    const [head] = await once(socket, 'data');
    expect(String(head)).toMatch(/^HTTP\/1.1 401 /);
    socket.destroy();
  });

  test.each([
    ['an unknown key', { 'X-API-Key': 'nobody' }, 401],
    ['a key without the scope', { 'X-API-Key': 'key-of-ops-00000' }, 403],
    ['a wrong signature', { 'X-Hub-Signature-256': `sha256=${'0'.repeat(64)}` }, 401],
  ])('a delivery with %s is refused, and nothing is recorded or published', async (_, headers, status) => {
    let published = 0;
    fixture.local.subscribe('any', async () => published++);
    const response = await post('/webhook', headers as Record<string, string>);
    expect(response.status).toBe(status);
    expect(response.headers.get('content-type')).toMatch('application/json');
    for (const [collection, orderBy] of [
      ['events', 'received_at_ms'],
      ['outbox', 'due_at_ms'],
    ] as const) {
      expect(await fixture.store.query({ collection, orderBy, limit: 10 })).toEqual([]);
    }
    expect(published).toBe(0);
  });

  test.each([
    ['parse_error', 400, '{'],
    ['invalid_request', 400, '[]'],
    ['invalid_request', 400, '{"event":"a","event":"b"}'],
    ['invalid_request', 400, '{"event":"a","data":{"__proto__":1}}'],
    ['invalid_request', 400, `{"event":"a","data":${'['.repeat(64)}${']'.repeat(64)}}`],
    ['payload_too_large', 413, `{"event":"a","data":"${'x'.repeat(900 * 1024)}"}`],
  ])('a bad body is answered %s with %i (%#)', async (reason, status, body) => {
    const response = await post('/webhook', CI, body);
    expect(response.status).toBe(status);
    expect(await response.json()).toMatchObject({ error: { data: { reason } } });
    expect(response.headers.get('x-ratelimit-limit')).toBe('100');
  });

  test.each(['gzip', 'br', 'x'])('a body encoded as %s is refused with 415, charged', async (encoding) => {
    const response = await post('/webhook', { ...CI, 'Content-Encoding': encoding });
    expect([response.status, response.headers.get('x-ratelimit-remaining')]).toEqual([415, '99']);
    expect(await response.json()).toMatchObject({ error: { code: 415, data: { reason: 'unsupported_media_type' } } });
  });

  test('a body of exactly the largest size is accepted', async () => {
    const head = '{"event":"big","data":"';
    const body = `${head}${'x'.repeat(900 * 1024 - head.length - 2)}"}`;
    expect((await post('/webhook', CI, body)).status).toBe(200);
  });

  test('a delivery charges the key, has its headers, and beyond the limit is 429 with all headers', async () => {
    const key = { 'X-API-Key': 'key-of-small-000' };
    const first = await post('/webhook', key, { event: 'a' });
    expect(first.headers.get('x-ratelimit-limit')).toBe('2');
    expect(first.headers.get('x-ratelimit-remaining')).toBe('1');
    await post('/webhook', key, { event: 'b' });
    const third = await post('/webhook', key, { event: 'c' });
    expect(third.status).toBe(429);
    for (const name of ['x-ratelimit-limit', 'x-ratelimit-remaining', 'x-ratelimit-reset', 'retry-after']) {
      expect(third.headers.get(name)).toMatch(/^\d+$/);
    }
  });

  test('a Standard Webhooks signature is accepted, and the signed id is the delivery id', async () => {
    const body = JSON.stringify({ type: 'user.created', timestamp: '2025-01-01T00:00:00Z', data: { id: 1 } });
    const first = await post('/webhook', standard(body), body);
    expect(first.status).toBe(200);
    expect(first.headers.get('x-ratelimit-limit')).toBe('1000');
    const again = await receiptOf(await post('/webhook', standard(body), body));
    expect(again).toEqual({ ...(await receiptOf(first)), duplicate: true });
    const other = await receiptOf(await post('/webhook', standard(body, 'msg_2'), body));
    expect(other.duplicate).toBe(false);
  });

  test.each([
    ['an unpaired surrogate', String.raw`{"event":"push","data":{"text":"\ud83d, \ude00\ud83d","service":"a\udc00"}}`],
    ['integers beyond 2^53', '{"event":"push","data":{"id":9007199254740993,"n":1e400}}'],
    ['an event that is named with an unpaired surrogate', String.raw`{"event":"\ud83d","data":{}}`],
  ])('%s is recorded and published byte for byte', async (_, body) => {
    const received: string[] = [];
    fixture.local.subscribe('bytes', async (event) => void received.push(toMessage(event).data.toString('utf8')));
    for (const headers of [github(body), standard(body), CI]) {
      const response = await post('/webhook', headers, body);
      expect(response.status).toBe(200);
      const { event_id } = await receiptOf(response);
      const [snapshot] = await fixture.store.get([Events.ref(event_id)]);
      const document = Events.read(snapshot);
      expect(document?.body).toBe(body);
      const listed = JSON.stringify(document && toRecordedEvent(event_id, document));
      expect(listed.isWellFormed()).toBe(true);
      const { data } = JSON.parse(listed) as { data: unknown };
      if (typeof data === 'object') expect(data).toEqual((JSON.parse(body) as { data: unknown }).data);
      else expect(body).toContain(data);
    }
    expect(received).toEqual([body, body, body]);
  });

  test('each secret has limits of its own, besides those of keys, and they are in the headers', async () => {
    const limited = await createFixture({
      GATEWAY_KEYS: JSON.stringify(KEYS),
      GATEWAY_LIMITS: '1/day',
      WEBHOOK_SECRETS: 'github:hub-secret github:old-secret',
      WEBHOOK_LIMITS: '2/hour,5/day',
    });
    url = await limited.listen();
    const deliver = async (secret: string): Promise<(string | number | null)[]> => {
      const body = JSON.stringify({ event: 'a', data: Math.random() });
      const { status, headers } = await post('/webhook', github(body, secret), body);
      return [status, headers.get('x-ratelimit-limit'), headers.get('x-ratelimit-remaining')];
    };
    expect(await deliver('hub-secret')).toEqual([200, '2', '1']);
    expect(await deliver('hub-secret')).toEqual([200, '2', '0']);
    expect(await deliver('hub-secret')).toEqual([429, '2', '0']);
    expect(await deliver('old-secret')).toEqual([200, '2', '1']);
    await limited.close();
  });

  test('an unsigned header does not name the event of a signed delivery', async () => {
    const body = '{"data":{}}';
    expect((await post('/webhook', { ...standard(body), 'X-GitHub-Event': 'forged' }, body)).status).toBe(400);
  });

  test('GitHub’s signature, event and delivery id are accepted', async () => {
    const body = JSON.stringify({ zen: 'Keep it logically awesome.', hook_id: 1 });
    const headers = {
      ...github(body),
      'X-GitHub-Event': 'ping',
      'X-GitHub-Delivery': '72d3162e-cc78-11e3-81ab-4c9367dc0958',
    };
    const first = await post('/webhook', headers, body);
    expect(first.status).toBe(200);
    const again = await receiptOf(await post('/webhook', headers, body));
    expect(again).toEqual({ ...(await receiptOf(first)), duplicate: true });
  });

  test('a repeated delivery that is signed with another of the secrets is recognised', async () => {
    const body = '{"action":"opened"}';
    const headers = { 'X-GitHub-Event': 'issues', 'X-GitHub-Delivery': 'one' };
    const first = await receiptOf(await post('/webhook', { ...headers, ...github(body, 'old-secret') }, body));
    const again = await receiptOf(await post('/webhook', { ...headers, ...github(body) }, body));
    expect(again).toEqual({ ...first, duplicate: true });
  });

  test('the JSON is read in the form that GitHub sends by default', async () => {
    const payload = JSON.stringify({ action: 'opened', title: 'a & b = ü' });
    const body = new URLSearchParams({ payload }).toString();
    const form = { 'Content-Type': 'application/x-www-form-urlencoded', 'X-GitHub-Event': 'issues' };
    const received: string[] = [];
    fixture.local.subscribe('form', async (event) => void received.push(event.type, event.body));
    expect((await post('/webhook', { ...form, ...github(body) }, body)).status).toBe(200);
    expect(received).toEqual(['issues', payload]);
  });

  test.each([
    ['an empty key', (body: string) => ({ 'X-API-Key': '', ...github(body) })],
    ['a key that is not ours', (body: string) => ({ 'X-API-Key': 'nobody', ...github(body) })],
    ['a token that is not ours', (body: string) => ({ Authorization: 'Bearer nobody', ...github(body) })],
    ['an Authorization that is no key', (body: string) => ({ Authorization: 'Basic dTpw', ...github(body) })],
    ['a key without the scope', (body: string) => ({ 'X-API-Key': 'key-of-ops-00000', ...github(body) })],
    ['a token without the scope', (body: string) => ({ Authorization: 'Bearer key-of-ops-00000', ...standard(body) })],
    ['two different keys', (body: string) => ({ ...CI, Authorization: 'Bearer key-of-ops-00000', ...standard(body) })],
    [
      'a signature of the other kind that is not valid',
      (body: string) => ({ 'webhook-signature': 'v1,x', ...github(body) }),
    ],
  ])('a valid signature is accepted beside %s', async (_, headersOf) => {
    const body = JSON.stringify({ event: 'a', data: {} });
    expect((await post('/webhook', headersOf(body), body)).status).toBe(200);
  });

  test('a valid signature is accepted beside a key that is revoked or has used up its calls: the sender pays', async () => {
    const key = { 'X-API-Key': 'key-of-small-000' };
    for (const event of ['a', 'b', 'c']) await post('/webhook', key, { event });
    await setRevoked(fixture.store, 'ci', true);
    for (const headers of [key, CI]) {
      const body = JSON.stringify({ event: 'signed', data: headers });
      expect((await post('/webhook', { ...headers, ...github(body, 'guess') }, body)).status).not.toBe(200);
      const response = await post('/webhook', { ...headers, ...github(body) }, body);
      expect([response.status, response.headers.get('x-ratelimit-limit')]).toEqual([200, '1000']);
    }
  });

  test('a valid signature is accepted while keys cannot be read, and an invalid one is answered 503', async () => {
    const { keys } = fixture.services;
    const find = vi.spyOn(keys, 'find').mockRejectedValue(new RpcError('unavailable'));
    const body = JSON.stringify({ event: 'a', data: {} });
    expect((await post('/webhook', { ...CI, ...github(body) }, body)).status).toBe(200);
    expect((await post('/webhook', { ...CI, ...github(body, 'guess') }, body)).status).toBe(503);
    expect((await post('/webhook', github(body, 'guess'), body)).status).toBe(401);
    find.mockRestore();
  });

  test('a key without the scope is answered 403 beside a signature that is not valid', async () => {
    const body = JSON.stringify({ event: 'a', data: {} });
    const headers = { 'X-API-Key': 'key-of-ops-00000', ...github(body, 'guess') };
    expect((await post('/webhook', headers, body)).status).toBe(403);
  });

  test('the latest deployment of senders whose clock does not advance is kept', async () => {
    for (const version of ['v1', 'v2', 'v3', 'v4']) {
      const data = { ...REFERENCE_EVENT.data, version };
      expect((await post('/webhook', CI, { ...REFERENCE_EVENT, data })).status).toBe(200);
      const { items } = await listDeployments(fixture.store, { limit: 10 });
      expect(items.map((item) => item.version)).toEqual([version]);
    }
  });

  test('a key without the scope is charged too, as the headers report', async () => {
    const ops = { 'X-API-Key': 'key-of-ops-00000' };
    const remaining = [];
    for (const path of ['/webhook', '/webhook', '/webhook/sweep']) {
      remaining.push((await post(path, ops)).headers.get('x-ratelimit-remaining'));
    }
    expect(remaining).toEqual(['99', '98', '97']);
  });

  test('other methods and paths are answered 405 and 404', async () => {
    const get = await fetch(`${url}/webhook`, { headers: CI });
    expect([get.status, get.headers.get('allow')]).toEqual([405, 'POST, OPTIONS']);
    expect((await post('/webhook/other', CI)).status).toBe(404);
  });

  test('no key, secret or body is ever logged', async () => {
    const body = JSON.stringify({ event: 'a', data: 'the-body-itself' });
    await post('/webhook', CI, body);
    await post('/webhook', github(body), body);
    await post('/webhook', { 'X-API-Key': 'wrong-key' }, body);
    fixture.services.log.flush();
    const lines = fixture.logged.join('');
    expect(lines).toMatch('"outcome":"accepted"');
    expect(lines).not.toMatch(/key-of-ci|hub-secret|wrong-key|the-body-itself|MfKQ9r8/);
  });
});

describe('POST /webhook/sweep', () => {
  test('a sweep publishes queued events, for a key with the scope admin', async () => {
    fixture.wire.up = false;
    await post('/webhook', CI);
    fixture.wire.up = true;
    fixture.clock.advance(CLAIM_MS);
    const response = await post('/webhook/sweep', { 'X-API-Key': 'key-of-ops-00000' }, '');
    expect([response.status, await response.json()]).toEqual([200, { published: 1, failed: 0, lost: 0 }]);
  });

  test.each([
    ['no credentials', {}, 401],
    ['a key without the scope', CI, 403],
    ['a token while no account is configured', { Authorization: 'Bearer a.b.c' }, 401],
  ])('the sweep refuses %s', async (_, headers, status) => {
    expect((await post('/webhook/sweep', headers as Record<string, string>, '')).status).toBe(status);
  });
});
