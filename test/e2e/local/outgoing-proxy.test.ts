// On a machine that reaches the internet through a proxy only, prompts, Codex's relay and checks of logins go through
// it.
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, beforeEach, expect, it } from 'vitest';
import { toAccount } from '../../../shared/engines/codex/relay/account.ts';
import { createRelay } from '../../../shared/engines/codex/relay/relay.ts';
import { createRunningTurns } from '../../../shared/engines/codex/relay/running-turns.ts';
import { type LocalGateway, startLocalGateway } from '../../support/fixtures/gateway/local-gateway.ts';

const seen: string[] = [];
let proxy: Server;
let proxyUrl: string;
const credentials = new Set<string | undefined>();
const running: LocalGateway[] = [];

beforeAll(async () => {
  proxy = createServer((req, res) => {
    seen.push(`${req.method} ${req.url}`);
    credentials.add(req.headers['proxy-authorization']);
    res.writeHead(402, { 'content-type': 'application/json' }).end('{"error":{"message":"from the proxy"}}');
  });
  proxy.on('connect', (req, socket) => {
    seen.push(`CONNECT ${req.url}`);
    credentials.add(req.headers['proxy-authorization']);
    socket.on('error', () => {});
    socket.end('HTTP/1.1 403 Forbidden\r\n\r\n');
  });
  proxy.listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  proxyUrl = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
});
beforeEach(() => {
  seen.length = 0;
});
afterAll(async () => {
  await Promise.all(running.map((gateway) => gateway.stop()));
  proxy.close();
});

async function start(env: Readonly<Record<string, string>>): Promise<LocalGateway> {
  const gateway = await startLocalGateway({ env: { OPENAI_API_KEY: 'k', ...env } });
  running.push(gateway);
  return gateway;
}

async function call({ url }: LocalGateway, method: string, params: object): Promise<unknown> {
  const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method, params });
  const response = await fetch(`${url}/jsonrpc`, { method: 'POST', headers: { 'x-api-key': 'dev-key' }, body });
  return response.json();
}

const LOGIN = { provider: 'openai', credentials: { token: 'sk-abcdefghijklmnopqrstuvwxyz' } };

it.each(['HTTPS_PROXY', 'https_proxy'])(
  'the proxy of the machine receives prompts and logins to https addresses: %s',
  async (name) => {
    const gateway = await start({ [name]: proxyUrl, OPENAI_BASE_URL: 'https://models.example.invalid/v1' });
    await call(gateway, 'auth.login', LOGIN);
    expect(seen).toEqual(['CONNECT models.example.invalid:443']);
    await call(gateway, 'conversation.prompt', { prompt: 'Hello' });
    expect(seen.length).toBeGreaterThan(1);
    expect(new Set(seen)).toEqual(new Set(['CONNECT models.example.invalid:443']));
  },
);

it('the proxy of the machine receives prompts and logins to http addresses, and none to hosts of NO_PROXY', async () => {
  const base = { HTTP_PROXY: proxyUrl, OPENAI_BASE_URL: 'http://models.example.invalid/v1' };
  const gateway = await start(base);
  await call(gateway, 'conversation.prompt', { prompt: 'Hello' });
  expect(seen).toContain('POST http://models.example.invalid/v1/responses');
  await call(gateway, 'auth.login', LOGIN);
  expect(seen.some((line) => /(?:CONNECT models.example.invalid:80|GET http:\/\/models)/.test(line))).toBe(true);
  seen.length = 0;
  const direct = await start({ ...base, NO_PROXY: 'models.example.invalid' });
  await call(direct, 'auth.login', LOGIN);
  expect(seen).toEqual([]);
});

it('prompts and logins are sent with the credentials of the proxy', async () => {
  const HTTP_PROXY = proxyUrl.replace('//', '//us%40er:secret@');
  const gateway = await start({ HTTP_PROXY, OPENAI_BASE_URL: 'http://models.example.invalid/v1' });
  credentials.clear();
  await call(gateway, 'conversation.prompt', { prompt: 'Hello' });
  await call(gateway, 'auth.login', LOGIN);
  expect(seen.length).toBeGreaterThan(1);
  expect([...credentials]).toEqual([`Basic ${Buffer.from('us@er:secret').toString('base64')}`]);
});

it('the requests of Codex pass the proxy of the machine, through the relay', async () => {
  const baseUrls = { gateway: 'https://models.example.invalid/v1', chatgpt: 'https://models.example.invalid/v1' };
  const relay = createRelay(baseUrls, { HTTPS_PROXY: proxyUrl });
  const running = createRunningTurns();
  running.begin('token', { account: toAccount({}, 'sk'), modelIds: ['m'] });
  const codex = createServer((request, response) => {
    const { method = '', url: path = '', headersDistinct } = request;
    const headers = { authorization: headersDistinct.authorization ?? [] };
    const writeHead = (status: number): void => void response.writeHead(status);
    relay.forward({ method, path, headers, body: request }, { body: response, writeHead }, running);
  });
  codex.listen(0, '127.0.0.1');
  await once(codex, 'listening');
  const { port } = codex.address() as AddressInfo;
  const response = await fetch(`http://127.0.0.1:${port}/responses`, {
    method: 'POST',
    headers: { authorization: 'Bearer token' },
    body: '{"model":"m"}',
  });
  expect(response.ok).toBe(false);
  expect(seen).toEqual(['CONNECT models.example.invalid:443']);
  relay.close();
  codex.close();
});
