// A function and its companion as the cloud has them: two instances on one store, the function's calls forwarded over HTTP with tokens signed
// by a key that plays Google's. The companion can be recycled: a new one, on the same address, with an empty memory.
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createJsonRpcHandler } from '../../../functions/jsonrpc/handler.ts';
import { createCompanionServer } from '../../../functions/ws/companion.ts';
import { systemClock } from '../../../shared/clock.ts';
import { type Environment, loadConfig } from '../../../shared/config.ts';
import { createServices } from '../../../shared/create-services.ts';
import { forwardToCompanion } from '../../../shared/forward/forward.ts';
import { createHttpCompanion } from '../../../shared/forward/http-companion.ts';
import { createGateway } from '../../../shared/gateway.ts';
import { createLogger } from '../../../shared/log.ts';
import type { MethodContext } from '../../../shared/methods/define-method.ts';
import * as methods from '../../../shared/methods/index.ts';
import { createRegistry } from '../../../shared/rpc/method.ts';
import { createEmbeddedStore } from '../../../shared/store/embedded.ts';
import { KEY_ID, signIdToken } from '../../support/google-id-token.ts';

const AUDIENCE = 'https://companion.example.com';
const FUNCTION = 'jsonrpc@project.iam.gserviceaccount.com';

export interface Answer {
  readonly result?: Record<string, unknown>;
  readonly error?: { readonly code: number; readonly data: { readonly reason: string } };
}

export interface CloudStage {
  /** A call of the function's own endpoint. */
  call(method: string, params: object): Promise<Answer>;
  /** How many calls were forwarded so far. */
  forwarded(): number;
  /** What the companions logged. */
  logged(): string;
  /** The companion's instance ends, and with it its memory; the next one takes its place. */
  recycle(): Promise<void>;
  close(): Promise<void>;
}

export async function listen(listener: RequestListener | Server): Promise<{ url: string; close(): void }> {
  const server = typeof listener === 'function' ? createServer(listener) : listener;
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close() {
      server.closeAllConnections();
      server.close();
    },
  };
}

export async function createCloudStage(env: Environment): Promise<CloudStage> {
  const google = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const certificates = await listen((_, res) => {
    res.writeHead(200, { 'Content-Type': 'application/json', 'Cache-Control': 'public, max-age=3600' });
    res.end(JSON.stringify({ [KEY_ID]: google.publicKey.export({ type: 'spki', format: 'pem' }) }));
  });
  const registry = createRegistry<MethodContext>(Object.values(methods));
  const store = createEmbeddedStore({ path: ':memory:', clock: systemClock });
  const config = loadConfig({
    GATEWAY_STORE: 'memory',
    GATEWAY_LIMITS: '100000/minute',
    COMPANION_AUDIENCE: AUDIENCE,
    COMPANION_CALLER: FUNCTION,
    ...env,
  });
  const logged: string[] = [];
  const log = createLogger({ format: 'json', write: (text) => logged.push(text) });
  const silent = createLogger({ format: 'json', write: () => {} });
  let calls = 0;

  const startCompanion = async () => {
    const services = await createServices(config, { store, log });
    const server = createCompanionServer(services, registry, { certificatesUrl: `${certificates.url}/certs` });
    server.on('request', () => calls++);
    const { url, close } = await listen(server);
    return {
      url,
      async close() {
        close();
        await services.close();
      },
    };
  };
  let companion = await startCompanion();
  const services = await createServices(config, { store, log: silent });
  const sent = forwardToCompanion(registry, (call) =>
    createHttpCompanion({
      url: companion.url,
      authorization: async () => `Bearer ${signIdToken(google.privateKey, AUDIENCE, FUNCTION)}`,
    })(call),
  );
  const front = await listen(createJsonRpcHandler(services, createGateway(services, sent)));

  return {
    logged() {
      log.flush();
      return logged.join('');
    },
    forwarded: () => calls,
    async call(method, params) {
      const response = await fetch(`${front.url}/jsonrpc`, {
        method: 'POST',
        headers: { 'X-API-Key': 'dev-key', 'Content-Type': 'application/json' },
        body: JSON.stringify({ jsonrpc: '2.0', method, params, id: 1 }),
      });
      return (await response.json()) as Answer;
    },
    async recycle() {
      await companion.close();
      companion = await startCompanion();
    },
    async close() {
      front.close();
      await companion.close();
      await services.close();
      certificates.close();
      await store.close();
    },
  };
}
