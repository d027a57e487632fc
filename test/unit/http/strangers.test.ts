// No request without a valid credential causes a 5xx or a line of severity ERROR, for which operators set alerts,
// whatever it contains and on whichever deployable it arrives. During an outage a refusal may be 503, never an ERROR.
import { once } from 'node:events';
import { createServer, type IncomingMessage, request, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, expect, it } from 'vitest';
import { createCompanionServer } from '../../../functions/companion/companion.ts';
import { createHealthHandler } from '../../../functions/health/handler.ts';
import { loadConfig } from '../../../shared/config/load-config.ts';
import { createServices } from '../../../shared/create-services.ts';
import { RpcError } from '../../../shared/errors.ts';
import { createLogger } from '../../../shared/log.ts';
import { startInProcess } from '../../support/fixtures/gateway/in-process.ts';
import { createFixture } from '../../support/fixtures/webhooks/webhooks.ts';

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

/** A token of the right form by an unknown signer. */
const JWT = ['{"alg":"RS256","kid":"x"}', '{"aud":"a"}', 'x'].map((part) => Buffer.from(part).toString('base64url'));
const WRONG: readonly Record<string, string>[] = [
  {},
  { 'x-api-key': 'wrong', traceparent: 'no', 'x-cloud-trace-context': '\u00ff/;o=' },
  { authorization: `Bearer ${JWT.join('.')}` },
  { authorization: 'Bearer a.b.c', 'x-gateway-call': 'e30' },
  { 'x-hub-signature-256': 'sha256=00', 'x-github-event': 'push' },
  { 'webhook-id': 'm', 'webhook-timestamp': 'x', 'webhook-signature': 'v1,AA==' },
  { upgrade: 'websocket', connection: 'upgrade', 'sec-websocket-key': 'x', 'sec-websocket-version': '13' },
];
const BODIES = [
  undefined,
  '',
  '{',
  '[]',
  '{"jsonrpc":"2.0","id":1,"method":"system.health"}',
  '\u0000',
  '[['.repeat(99),
];
const PATHS = ['/', '/health?verbose=1', '/jsonrpc', '/webhook', '/webhook/sweep', '/deployments', '/ws', '/%ff', '//'];

async function statusesOf(url: string): Promise<Set<number>> {
  const statuses = new Set<number>();
  for (const path of PATHS) {
    for (const [index, headers] of WRONG.entries()) {
      const body = BODIES[index % BODIES.length];
      const method = body === undefined ? 'GET' : 'POST';
      statuses.add(await statusOf(url + path, method, headers, body));
    }
  }
  return statuses;
}

/** Sent by node:http, because `fetch` sends no upgrade. */
async function statusOf(
  url: string,
  method: string,
  headers: Record<string, string>,
  body: string | undefined,
): Promise<number> {
  const sent = request(url, { method, headers, agent: false }).end(body);
  const [response] = (await once(sent, 'response')) as [IncomingMessage];
  response.resume();
  await once(response, 'end');
  return response.statusCode ?? 0;
}

async function listen(server: Server): Promise<string> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  closing.push(() => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** Address of Google's certificates; no test requests them from Google. */
const UNREACHABLE = 'http://127.0.0.1:1/certificates';
const DOWN = { ping: () => Promise.reject(new RpcError('unavailable')) };
const DEPLOYABLES: readonly (readonly [string, (isDown: boolean) => Promise<readonly [string, () => string]>])[] = [
  [
    'the local gateway',
    async (isDown) => {
      const gateway = await startInProcess({ WEBHOOK_SECRETS: 'github:secret' });
      closing.push(gateway.close);
      if (isDown) for (const name of ['store', 'bus', 'keys'] as const) Object.assign(gateway.services[name], DOWN);
      return [gateway.url, gateway.logged];
    },
  ],
  [
    'the companion',
    async (isDown) => {
      const written: string[] = [];
      const log = createLogger({ format: 'json', write: (text) => written.push(text) });
      const config = loadConfig({
        GATEWAY_STORE: 'memory',
        GATEWAY_BUS: 'local',
        COMPANION_AUDIENCE: 'https://companion.example.com',
        COMPANION_CALLER: 'jsonrpc@project.iam.gserviceaccount.com',
      });
      const services = await createServices(config, { log });
      closing.push(() => services.close());
      if (isDown) for (const name of ['store', 'bus', 'keys'] as const) Object.assign(services[name], DOWN);
      const server = createCompanionServer(services, new Map(), { certificatesUrl: UNREACHABLE });
      return [await listen(server), logOf(log.flush, written)];
    },
  ],
  [
    'the functions webhook and deployments',
    async (isDown) => {
      const fixture = await createFixture({
        PUSH_AUDIENCE: 'https://deployments.example.com',
        PUSH_SERVICE_ACCOUNT: 'push@project.iam.gserviceaccount.com',
        WEBHOOK_SECRETS: 'github:secret',
      });
      closing.push(fixture.close);
      fixture.store.state = isDown ? 'down' : 'up';
      const url = await fixture.listen({ certificatesUrl: UNREACHABLE });
      return [url, logOf(fixture.services.log.flush, fixture.logged)];
    },
  ],
  [
    'the function health, which reads no keys',
    async () => {
      const handler = createHealthHandler({ has: () => false }, async () => undefined);
      return [await listen(createServer((req, res) => void handler(req, res))), () => ''];
    },
  ],
];

function logOf(flush: () => void, written: readonly string[]): () => string {
  return () => {
    flush();
    return written.join('');
  };
}

it.each(DEPLOYABLES)(
  '%s writes no ERROR line for what a request without a credential contains',
  async (name, start) => {
    const [url, logged] = await start(false);
    const statuses = await statusesOf(url);
    // Without the certificates no token can be checked.
    const outage = name === 'the functions webhook and deployments' || name === 'the companion' ? [503] : [];
    expect([...statuses].filter((status) => status >= 500 && !outage.includes(status))).toEqual([]);
    expect(logged()).not.toMatch(/"severity":"(ERROR|CRITICAL|ALERT|EMERGENCY)"/);
  },
);

it.each(DEPLOYABLES)(
  '%s answers requests without a credential with at most 503 during an outage, without an ERROR line',
  async (_name, start) => {
    const [url, logged] = await start(true);
    expect([...(await statusesOf(url))].filter((status) => status >= 500 && status !== 503)).toEqual([]);
    expect(logged()).not.toMatch(/"severity":"(ERROR|CRITICAL|ALERT|EMERGENCY)"/);
  },
);
