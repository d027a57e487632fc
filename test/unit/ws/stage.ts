// A gateway with sockets and nothing but real parts: embedded store in memory, limiter, keys, HTTP server on loopback. Methods may be
// added to see what a connection does with them.
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import WebSocket from 'ws';
import { attachWebSocket, type WebSocketEndpoint, type WebSocketOptions } from '../../../functions/ws/server.ts';
import type { ApiKey, Keys } from '../../../shared/auth/keys.ts';
import { type Environment, loadConfig } from '../../../shared/config.ts';
import { createServices } from '../../../shared/create-services.ts';
import { createGateway, type Gateway } from '../../../shared/gateway.ts';
import { createLogger } from '../../../shared/log.ts';
import type { MethodContext } from '../../../shared/methods/define-method.ts';
import * as methods from '../../../shared/methods/index.ts';
import { type AnyMethod, createRegistry } from '../../../shared/rpc/method.ts';
import type { Services } from '../../../shared/services.ts';

export const KEY = 'dev-key';

export interface Stage {
  readonly services: Services;
  readonly gateway: Gateway;
  readonly sockets: WebSocketEndpoint;
  readonly port: number;
  /** `ws://127.0.0.1:port/ws` */
  readonly url: string;
  readonly logged: string[];
  /** A client that is open. */
  connect(options?: ConnectOptions): Promise<Client>;
  close(): Promise<void>;
}

export interface ConnectOptions {
  readonly headers?: Readonly<Record<string, string>>;
  readonly protocols?: readonly string[];
}

export interface StageOptions {
  readonly env?: Environment;
  readonly sockets?: WebSocketOptions;
  readonly methods?: readonly AnyMethod<MethodContext>[];
  readonly overrides?: Partial<Services>;
}

export async function createStage(options: StageOptions = {}): Promise<Stage> {
  const config = loadConfig({
    GATEWAY_STORE: 'memory',
    GATEWAY_BUS: 'local',
    GATEWAY_LIMITS: '1000000/minute',
    ...options.env,
  });
  const logged: string[] = [];
  const log = createLogger({ format: 'json', write: (text) => logged.push(text) });
  const services = await createServices(config, { log, ...options.overrides });
  const gateway = createGateway(services, createRegistry([...Object.values(methods), ...(options.methods ?? [])]));
  const server = createServer((_req, res) => res.writeHead(404).end());
  const sockets = attachWebSocket(server, services, gateway, options.sockets);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  const url = `ws://127.0.0.1:${port}/ws`;
  return {
    services,
    gateway,
    sockets,
    port,
    url,
    logged,
    connect: (how) => connect(url, how),
    async close() {
      sockets.close();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await services.conversations.drain(0);
      await services.close();
    },
  };
}

export interface Message {
  readonly jsonrpc?: string;
  readonly id?: string | number | null;
  readonly method?: string;
  readonly params?: Readonly<Record<string, unknown>>;
  readonly result?: Readonly<Record<string, unknown>>;
  readonly error?: {
    readonly code: number;
    readonly message: string;
    readonly data: Readonly<Record<string, unknown>>;
  };
}

export interface Client {
  readonly socket: WebSocket;
  /** All text received so far, in order; a batch response is flattened. */
  readonly received: Message[];
  /** Resolves to the first message, past or future, that matches. */
  until(matches: (message: Message) => boolean): Promise<Message>;
  /** Sends a call and resolves to its response. */
  call(method: string, params?: object): Promise<Message>;
  send(value: unknown): void;
  /** How the connection ended. */
  readonly closed: Promise<{ readonly code: number; readonly reason: string }>;
}

export async function connect(
  url: string,
  { headers = { 'X-API-Key': KEY }, protocols = [] }: ConnectOptions = {},
): Promise<Client> {
  const socket = new WebSocket(url, [...protocols], { headers });
  const client = clientOf(socket);
  await once(socket, 'open');
  return client;
}

export function clientOf(socket: WebSocket): Client {
  const received: Message[] = [];
  const waiting = new Set<() => void>();
  let ended = false;
  let calls = 0;
  const closed = new Promise<{ code: number; reason: string }>((resolve) => {
    socket.once('close', (code, reason) => {
      ended = true;
      for (const check of [...waiting]) check();
      resolve({ code, reason: String(reason) });
    });
  });
  socket.on('message', (data, isBinary) => {
    if (isBinary) return;
    const value: Message | Message[] = JSON.parse(String(data));
    received.push(...(Array.isArray(value) ? value : [value]));
    for (const check of [...waiting]) check();
  });
  socket.on('error', () => {});
  const until: Client['until'] = (matches) =>
    new Promise((resolve, reject) => {
      let index = 0;
      const check = (): void => {
        for (; index < received.length; index++) {
          const message = received[index];
          if (message === undefined || !matches(message)) continue;
          waiting.delete(check);
          resolve(message);
          return;
        }
        if (ended) {
          waiting.delete(check);
          reject(new Error('the connection ended before the message came'));
        }
      };
      waiting.add(check);
      check();
    });
  return {
    socket,
    received,
    until,
    closed,
    send: (value) => socket.send(JSON.stringify(value)),
    call(method, params = {}) {
      const id = `call-${++calls}`;
      socket.send(JSON.stringify({ jsonrpc: '2.0', method, params, id }));
      return until((message) => message.id === id);
    },
  };
}

/** The HTTP answer to an upgrade request that is refused. */
export async function refusal(
  url: string,
  { headers = {}, protocols = [] }: ConnectOptions = {},
): Promise<{ readonly status: number; readonly headers: Readonly<Record<string, unknown>>; readonly body: Message }> {
  const socket = new WebSocket(url, [...protocols], { headers });
  socket.on('error', () => {});
  const [, response] = await once(socket, 'unexpected-response');
  let text = '';
  for await (const chunk of response) text += String(chunk);
  return { status: response.statusCode, headers: response.headers, body: JSON.parse(text) };
}

/** Keys that can be withdrawn and changed while the test runs, behind the real port. */
export function createChangingKeys(
  keys: Record<string, Partial<ApiKey>>,
): Keys & { readonly held: Map<string, ApiKey> } {
  const held = new Map<string, ApiKey>();
  for (const [key, rest] of Object.entries(keys)) {
    const digest = createHash('sha256').update(key).digest();
    held.set(digest.toString('hex'), { id: key, digest, scopes: new Set(), ...rest });
  }
  return {
    held,
    find: (digest) => held.get(Buffer.from(digest).toString('hex')),
    async ping() {},
  };
}

export function digestOf(key: string): string {
  return createHash('sha256').update(key).digest('hex');
}
