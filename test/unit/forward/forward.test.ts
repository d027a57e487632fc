// A function forwards a call that needs a process to the companion, and answers it as if the call had run there. Two
// real servers on loopback; the tokens are signed by a key in place of Google's.
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { type CompanionServer, createCompanionServer } from '../../../functions/companion/companion.ts';
import { createJsonRpcHandler } from '../../../functions/jsonrpc/handler.ts';
import { createIdTokens } from '../../../shared/auth/id-token.ts';
import { loadConfig } from '../../../shared/config/load-config.ts';
import { createServices } from '../../../shared/create-services.ts';
import { RpcError } from '../../../shared/errors.ts';
import { CALL_HEADER, encodeFacts } from '../../../shared/forward/call.ts';
import { openCompanionService } from '../../../shared/forward/companion-service.ts';
import { connectCompanion } from '../../../shared/forward/connect.ts';
import { forwardToCompanion } from '../../../shared/forward/forward.ts';
import { createHttpCompanion } from '../../../shared/forward/http-companion.ts';
import { createGateway } from '../../../shared/gateway.ts';
import { createLogger } from '../../../shared/log.ts';
import { defineMethod } from '../../../shared/methods/define-method.ts';
import { createRegistry } from '../../../shared/rpc/method.ts';
import type { Services } from '../../../shared/services.ts';
import { KEY_ID, signIdToken } from '../../support/fakes/google-id-token.ts';

const AUDIENCE = 'https://companion.example.com';
const FUNCTION = 'jsonrpc@project.iam.gserviceaccount.com';
const google = generateKeyPairSync('rsa', { modulusLength: 2048 });

const token = (claims: object = {}): string => signIdToken(google.privateKey, AUDIENCE, FUNCTION, claims);

let begun = Promise.withResolvers<void>();
let aborted = Promise.withResolvers<void>();
const run = defineMethod({
  name: 'test.run',
  summary: 'Needs a process',
  scope: 'workspace',
  cost: 'work',
  runs: 'companion',
  params: z.strictObject({ mode: z.enum(['answer', 'fail', 'crash', 'wait']).default('answer') }),
  result: z.object({}).loose(),
  example: { params: {}, result: {} },
  async handle({ mode }, { caller, requestId, requestMetadata, transport, notify, signal }) {
    if (mode === 'fail') throw new RpcError('patch_failed', { message: 'does not fit', data: { file: 'a.ts' } });
    if (mode === 'crash') throw new Error('a defect with a secret in it');
    if (mode === 'wait') {
      begun.resolve();
      await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
      aborted.resolve();
      throw new RpcError('cancelled');
    }
    for (const n of [1, 2]) await notify('test.event', { n, text: 'é\n' });
    return {
      key: caller.keyId,
      scopes: [...caller.scopes],
      digest: caller.digest?.length,
      requestId,
      requestMetadata,
      transport,
    };
  },
});
const sometimes = defineMethod({
  name: 'test.sometimes',
  summary: 'Needs a process for some params',
  scope: 'workspace',
  cost: 'work',
  params: z.strictObject({ process: z.boolean() }),
  result: z.object({ turns: z.number() }),
  example: { params: { process: true }, result: { turns: 0 } },
  placeOf: ({ process }) => (process ? 'companion' : 'local'),
  async handle(_, { notify }) {
    await notify('conversation.event', { turn_id: 'turn_1', seq: 7 });
    return { turns: 1 };
  },
});
const registry = createRegistry([run, sometimes]);

let certificates: Server;
let services: Services;
let companion: CompanionServer;
let companionUrl: string;
let functionUrl: string;
let functionServer: Server;
let calls = 0;
let bearer = (): string => token();
const logged: string[] = [];

async function listen(server: Server): Promise<string> {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

beforeAll(async () => {
  certificates = createServer((_, res) => {
    res.writeHead(200, { 'Content-Type': 'application/json', 'Cache-Control': 'public, max-age=3600' });
    res.end(JSON.stringify({ [KEY_ID]: google.publicKey.export({ type: 'spki', format: 'pem' }) }));
  });
  const certificatesUrl = `${await listen(certificates)}/certs`;
  const config = loadConfig({
    GATEWAY_STORE: 'memory',
    GATEWAY_BUS: 'local',
    GATEWAY_LIMITS: '1000/hour',
    COMPANION_AUDIENCE: AUDIENCE,
    COMPANION_CALLER: FUNCTION,
  });
  services = await createServices(config, {
    log: createLogger({ format: 'json', write: (text) => logged.push(text) }),
  });
  companion = createCompanionServer(services, registry, { certificatesUrl });
  companionUrl = await listen(companion);
  companion.on('request', () => {
    calls++;
  });
  const remote = createHttpCompanion({
    service: openCompanionService(companionUrl),
    authorization: async () => `Bearer ${bearer()}`,
  });
  const gateway = createGateway(services, forwardToCompanion(registry, remote));
  functionServer = createServer(createJsonRpcHandler(services, gateway));
  functionUrl = await listen(functionServer);
});
afterAll(async () => {
  for (const server of [certificates, companion, functionServer]) {
    server.closeAllConnections();
    server.close();
  }
  await services.close();
});

function call(
  params: object = {},
  headers: Readonly<Record<string, string>> = {},
  signal?: AbortSignal,
): Promise<Response> {
  return fetch(`${functionUrl}/jsonrpc`, {
    method: 'POST',
    headers: { 'X-API-Key': 'dev-key', 'X-Request-Id': 'req-7', ...headers },
    body: JSON.stringify({ jsonrpc: '2.0', method: 'test.run', params, id: 'mine' }),
    ...(signal && { signal }),
  });
}

describe('a forwarded call', () => {
  it('a forwarded call is answered as if it had run in the function, under the caller’s identity, and is charged once', async () => {
    const first = await call({}, { 'Idempotency-Key': 'once' });
    expect(first.status).toBe(200);
    expect(await first.json()).toMatchObject({
      jsonrpc: '2.0',
      id: 'mine',
      result: {
        key: 'default',
        scopes: expect.arrayContaining(['workspace', 'admin']),
        digest: 32,
        requestId: 'req-7',
        requestMetadata: { idempotencyKey: 'once' },
        transport: 'http',
      },
    });
    const second = await call();
    expect(
      Number(first.headers.get('x-ratelimit-remaining')) - Number(second.headers.get('x-ratelimit-remaining')),
    ).toBe(1);
  });

  it('a forwarded call streams its notifications, in order, before the response', async () => {
    const text = await (await call({}, { Accept: 'text/event-stream' })).text();
    const messages = text.split('\n').flatMap((line) => (line.startsWith('data: ') ? [JSON.parse(line.slice(6))] : []));
    expect(messages).toMatchObject([
      { method: 'test.event', params: { n: 1, text: 'é\n' } },
      { method: 'test.event', params: { n: 2 } },
      { id: 'mine', result: { transport: 'sse' } },
    ]);
  });

  it('a forwarded call is forwarded only when its params need a process, and sends the events of a turn with their ids', async () => {
    const streamCall = async (process: boolean): Promise<string> => {
      const response = await fetch(`${functionUrl}/jsonrpc`, {
        method: 'POST',
        headers: { 'X-API-Key': 'dev-key', Accept: 'text/event-stream' },
        body: JSON.stringify({ jsonrpc: '2.0', method: 'test.sometimes', params: { process }, id: 1 }),
      });
      return response.text();
    };
    const before = calls;
    expect(await streamCall(false)).toContain('"turns":1');
    expect(calls).toBe(before);
    expect(await streamCall(true)).toContain('id: turn_1:7\n');
    expect(calls).toBe(before + 1);
  });

  it('a forwarded call fails as it failed there, and a defect stays masked', async () => {
    expect(await (await call({ mode: 'fail' })).json()).toMatchObject({
      id: 'mine',
      error: {
        code: 409,
        message: 'does not fit',
        data: { reason: 'patch_failed', file: 'a.ts', request_id: 'req-7', retryable: false },
      },
    });
    const crash = await call({ mode: 'crash' });
    expect(crash.status).toBe(500);
    expect(await crash.text()).not.toContain('secret');
  });

  it('a forwarded call is validated before it is sent: params and scope', async () => {
    expect(await (await call({ mode: 'nonsense' })).json()).toMatchObject({ error: { code: -32602 } });
  });

  it('a forwarded call is aborted on the companion when its caller disconnects', async () => {
    begun = Promise.withResolvers();
    aborted = Promise.withResolvers();
    const leave = new AbortController();
    const answer = call({ mode: 'wait' }, {}, leave.signal).catch(() => 'gone');
    await begun.promise;
    leave.abort();
    await aborted.promise;
    expect(await answer).toBe('gone');
  });

  it('a forwarded call is unavailable, with when to try again, where the companion refuses or cannot be reached', async () => {
    const before = bearer;
    bearer = () => token({ email: 'stranger@project.iam.gserviceaccount.com' });
    const refused = await call();
    bearer = before;
    expect(refused.status).toBe(503);
    expect(await refused.json()).toMatchObject({
      error: { code: 503, data: { reason: 'unavailable', retry_after_ms: 1_000 } },
    });
    const unreachable = createHttpCompanion({
      service: openCompanionService('http://127.0.0.1:1'),
      authorization: async () => 'Bearer x',
    });
    const facts = {
      caller: { keyId: 'k', scopes: new Set<never>(), limits: [] },
      requestId: 'r',
      requestMetadata: {},
      transport: 'http',
    } as const;
    const sent = unreachable({ ...facts, method: 'test.run', params: {}, signal: new AbortController().signal });
    await expect(sent[Symbol.asyncIterator]().next()).rejects.toMatchObject({ reason: 'unavailable' });
  });

  it('a forwarded call is forbidden where the deployment has no companion', async () => {
    const alone = createGateway(
      services,
      connectCompanion(registry, {
        companion: { url: undefined, audience: undefined, caller: undefined },
        turnsRun: 'function',
      }).registry,
    );
    const reply = await alone.handle({
      caller: await alone.authenticate({ 'x-api-key': 'dev-key' }),
      body: Buffer.from('{"jsonrpc":"2.0","method":"test.run","id":1}'),
      requestId: 'r',
      transport: 'http',
      signal: new AbortController().signal,
    });
    expect(JSON.parse(reply.text ?? '')).toMatchObject({
      error: { code: 403, data: { disabled_by: 'deployment', disabled: 'test.run' } },
    });
  });
});

describe('the companion', () => {
  const facts = encodeFacts({
    caller: { keyId: 'forged', scopes: new Set(['workspace']), limits: [] },
    requestId: 'r',
    requestMetadata: {},
    transport: 'http',
  });
  const post = (headers: Readonly<Record<string, string>>): Promise<Response> =>
    fetch(`${companionUrl}/jsonrpc`, { method: 'POST', headers, body: '{"jsonrpc":"2.0","method":"test.run","id":1}' });

  it.each([
    ['nobody', {}],
    ['an API key', { 'X-API-Key': 'dev-key' }],
    ['an API key as Bearer', { Authorization: 'Bearer dev-key' }],
    ['another account', { Authorization: `Bearer ${token({ email: 'x@y.z' })}` }],
    ['another audience', { Authorization: `Bearer ${token({ aud: 'https://elsewhere.example.com' })}` }],
    ['an expired token', { Authorization: `Bearer ${token({ iat: 1, exp: 2 })}` }],
  ])('the companion takes no forwarded call from %s', async (_, headers) => {
    const answer = await post({ ...headers, [CALL_HEADER]: facts });
    expect(answer.status).toBe(401);
    expect(await answer.json()).toMatchObject({ error: { data: { reason: 'unauthorized' } } });
  });

  it.each([
    ['', 400],
    ['bm9uc2Vuc2U', 400],
  ])('the companion refuses facts that are none: %j', async (header, status) => {
    expect((await post({ Authorization: `Bearer ${token()}`, [CALL_HEADER]: header })).status).toBe(status);
  });

  it('the companion answers /health without a token, and no other path', async () => {
    const answer = await fetch(`${companionUrl}/health`);
    expect(await answer.json()).toEqual({ status: 'healthy' });
    expect((await fetch(`${companionUrl}/nothing`)).status).toBe(404);
  });

  it('the companion never logs a token or a body', () => {
    services.log.flush();
    expect(logged.join('')).not.toMatch(/eyJ|a defect with a secret in it.*result/);
  });
});

describe('an ID token', () => {
  it('the ID token comes from the metadata server, for the audience, and is fetched once', async () => {
    const requested: string[] = [];
    const metadata = createServer((req, res) => {
      requested.push(req.url ?? '');
      res.setHeader('Metadata-Flavor', 'Google');
      res.end(req.url?.includes('/identity') === true ? token() : 'ok');
    });
    const { host } = new URL(await listen(metadata));
    const before = { ...process.env };
    Object.assign(process.env, {
      GCE_METADATA_HOST: host,
      METADATA_SERVER_DETECTION: 'assume-present',
      GOOGLE_CLOUD_PROJECT: 'project',
      HOME: '/nonexistent',
    });
    try {
      const authorization = createIdTokens(AUDIENCE, 'companion');
      const signal = new AbortController().signal;
      expect(await authorization(signal)).toMatch(/^Bearer eyJ/);
      await authorization(signal);
      const identities = requested.filter((url) => url.includes('/identity'));
      expect(identities).toHaveLength(1);
      expect(decodeURIComponent(identities[0] ?? '')).toContain(`audience=${AUDIENCE}`);
    } finally {
      for (const name of ['GCE_METADATA_HOST', 'METADATA_SERVER_DETECTION', 'GOOGLE_CLOUD_PROJECT', 'HOME']) {
        if (before[name] === undefined) delete process.env[name];
        else process.env[name] = before[name];
      }
      metadata.closeAllConnections();
      metadata.close();
    }
  });
});
