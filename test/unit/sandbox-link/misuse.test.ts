// A message of a peer that violates the protocol of a sandbox link is refused or ends its link, and other links
// continue to work.
import { request } from 'node:http';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { serverHello } from '../../../shared/sandbox-link/link/connect/hello.ts';
import { CONTROL_BYTES_MAX, type Handlers, REQUESTS_MAX } from '../../../shared/sandbox-link/link/link.ts';
import { violations } from '../../support/fixtures/sandbox/link-violations.ts';
import { openRaw, type ServerFixture, startLinkServer, TOKEN } from '../../support/fixtures/sandbox/sandbox-link.ts';

let fixture: ServerFixture;
let running = 0;
const handlers: Handlers = {
  echo: async (params) => params,
  wait: (_params, { signal }) => {
    running++;
    return new Promise((_, reject) => {
      signal.addEventListener('abort', () => {
        running--;
        reject(signal.reason);
      });
    });
  },
};
beforeEach(async () => {
  running = 0;
  fixture = await startLinkServer({ handlers });
});
afterEach(() => fixture.stop());

async function expectHealthy(): Promise<void> {
  const link = await fixture.connect({ headers: async () => ({ Authorization: TOKEN }) });
  expect(await link.request('echo', 1)).toBe(1);
}

const POLICY = 1_008;

/** A raw client whose link is open. */
async function openLink() {
  const client = await openRaw(fixture.proxy.url);
  const hello = serverHello.parse(await client.next());
  if (hello.method === 'link.refused') throw new Error(hello.params.message);
  return { client, link: hello.params.link };
}

/** The status that an upgrade is answered with. */
function statusOf(path: string, headers: Record<string, string> = {}): Promise<number | undefined> {
  return new Promise((resolve, reject) => {
    const upgrade = { Connection: 'Upgrade', Upgrade: 'websocket', 'Sec-WebSocket-Version': '13' };
    const url = fixture.proxy.url + path;
    const sent = request(url, { headers: { ...upgrade, 'Sec-WebSocket-Key': `${'A'.repeat(22)}==`, ...headers } });
    sent.on('response', (response) => resolve(response.resume().statusCode));
    sent.on('upgrade', (response, socket) => {
      socket.destroy();
      resolve(response.statusCode);
    });
    sent.on('error', reject).end();
  });
}

it.each([
  ['no credential', '/link', {}, 401],
  ['a wrong credential', '/link', { Authorization: 'Bearer wrong' }, 401],
  ['another path', '/other', { Authorization: TOKEN }, 404],
  ['no WebSocket', '/link', { Authorization: TOKEN, 'Sec-WebSocket-Key': 'short' }, 400],
  ['a credential', '/link?x=1', { Authorization: TOKEN }, 101],
])('an upgrade is accepted with a credential and at its path only: %s', async (_name, path, headers, status) => {
  expect(await statusOf(path, headers)).toBe(status);
});

it('a refused credential is reported immediately, and the log states that the service cannot be reached', async () => {
  const connecting = fixture.connect({ headers: async () => ({ Authorization: 'Bearer wrong' }) });
  await expect(connecting).rejects.toMatchObject({
    reason: 'unavailable',
    message: expect.stringContaining('refuses'),
  });
  expect(fixture.proxy.connections).toBe(1);
  fixture.log.flush();
  expect(fixture.logged.join('')).toContain('"message":"sandbox service cannot be reached"');
  expect(fixture.logged.join('')).not.toContain('Bearer');
});

it('an unknown protocol is refused', async () => {
  const client = await openRaw(fixture.proxy.url, { protocol: { min: 2, max: 3 } });
  expect(await client.next()).toMatchObject({ method: 'link.refused', params: { reason: 'protocol' } });
  expect(await client.closed).toBe(POLICY);
});

it.each([
  ['a wrong secret', (link: object) => ({ ...link, secret: 'wrong', received: 0 })],
  ['an unknown id', (link: object) => ({ ...link, id: 'link_0', received: 0 })],
  ['messages that were not sent', (link: object) => ({ ...link, received: 1_000 })],
])('the resumption of a link with %s is refused, and the link is left alone', async (_name, resumeOf) => {
  const { client, link } = await openLink();
  const resume = resumeOf({ id: link.id, secret: link.secret });
  const other = await openRaw(fixture.proxy.url, { protocol: { min: 1, max: 1 }, resume });
  expect(await other.next()).toMatchObject({ method: 'link.refused', params: { reason: 'unknown_link' } });
  expect(await other.closed).toBe(POLICY);
  client.control({ id: 1, method: 'echo', params: 'mine' });
  expect(await client.next()).toMatchObject({ id: 1, result: 'mine' });
});

it('links beyond the bound are refused', async () => {
  await fixture.stop();
  fixture = await startLinkServer({ handlers, linksMax: 1 });
  await openLink();
  const client = await openRaw(fixture.proxy.url);
  expect(await client.next()).toMatchObject({ method: 'link.refused', params: { reason: 'full' } });
});

it.each([
  ['no object', { protocol: 1 }],
  ['no range', {}],
])('a WebSocket whose first message has %s is ended', async (_name, hello) => {
  const client = await openRaw(fixture.proxy.url, hello);
  expect(await client.closed).toBe(POLICY);
  await expectHealthy();
});

it('a WebSocket without a first message is ended', async () => {
  await fixture.stop();
  fixture = await startLinkServer({ handlers, times: { handshakeMs: 50 } });
  const client = await openRaw(fixture.proxy.url, null);
  expect(await client.closed).toBe(1_006);
});

describe('ends the link of a peer that sends', () => {
  it.each(violations(1))('the link of a peer that sends %s is ended', async (_name, send, code) => {
    const { client, link } = await openLink();
    send(client);
    expect(await client.closed).toBe(code);
    expect([...fixture.server.links].map(({ id }) => id)).not.toContain(link.id);
    expect(running).toBe(0);
    await expectHealthy();
  });
});

it('responses and cancellations of requests that are not there are ignored', async () => {
  const { client } = await openLink();
  client.control({ id: 77, result: 1 });
  client.control({ result: 1 });
  client.control({ method: 'link.cancel', params: { id: 9 } });
  client.control({ method: 'link.cancel' });
  client.control({ id: 1, method: 'echo', params: 'there' });
  expect(await client.next()).toMatchObject({ id: 1, result: 'there' });
});

it('10,000 concurrent requests are answered: a bounded number runs, the others are refused', async () => {
  const { client } = await openLink();
  for (let id = 1; id <= 10_000; id++) client.control({ id, method: 'wait' });
  const refused = [];
  while (refused.length < 10_000 - REQUESTS_MAX) refused.push(await client.next());
  expect(running).toBe(REQUESTS_MAX);
  expect(refused[0]).toMatchObject({ error: { code: 503, data: { reason: 'unavailable', retry_after_ms: 1_000 } } });
  await expectHealthy();
  client.socket.terminate();
});

it('the link of a peer that sends requests and acknowledges nothing is ended', async () => {
  const { client } = await openLink();
  const params = 'x'.repeat(CONTROL_BYTES_MAX - 200);
  const send = async (): Promise<void> => {
    for (let id = 1; client.socket.readyState === client.socket.OPEN; id++) {
      client.control({ id, method: 'echo', params });
      await client.next();
    }
  };
  await send();
  expect(await client.closed).toBe(POLICY);
  await expectHealthy();
});

it('the service closes its links normally when it closes, and refuses new ones', async () => {
  const { client } = await openLink();
  await fixture.server.close('maintenance');
  expect(await client.closed).toBe(1_000);
  await expect(fixture.connect({ connectMs: 50 })).rejects.toMatchObject({ reason: 'unavailable' });
});
