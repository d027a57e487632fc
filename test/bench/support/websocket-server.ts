// Runs a server of the WebSocket bench, one per process: a bare ws echo, or a gateway with authentication and limiter.
// Sends its port to the parent process, and its memory for each message of it.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type ServerOptions, WebSocketServer } from 'ws';
import type { z as Zod } from 'zod';
import { attachWebSocket } from '../../../functions/companion/server.ts';
import { loadConfig } from '../../../shared/config/load-config.ts';
import { createServices } from '../../../shared/create-services.ts';
import { createGateway } from '../../../shared/gateway.ts';
import { createLogger } from '../../../shared/log.ts';
import { defineMethod } from '../../../shared/methods/define-method.ts';
import { createRegistry } from '../../../shared/rpc/method.ts';

/**
 * The copy that the gateway uses. With schemas of a second one, in test/node_modules, objects of a call survive more
 * garbage collections, and a call takes a quarter more time.
 */
const ZOD = new URL('../../../node_modules/zod/index.js', import.meta.url).href;

if (process.argv[1] === import.meta.filename) await serve(process.argv[2]);

async function serve(kind: string | undefined): Promise<void> {
  const server = createServer();
  if (kind === 'bare') {
    const options: ServerOptions = { server, perMessageDeflate: false };
    new WebSocketServer(options).on('connection', (socket) => {
      socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
    });
  } else {
    const { z }: { readonly z: typeof Zod } = await import(ZOD);
    const config = loadConfig({ GATEWAY_STORE: 'memory', GATEWAY_BUS: 'local', GATEWAY_LIMITS: '1000000000/minute' });
    // Log lines are formatted as in production and dropped: writing them is not measured.
    const services = await createServices(config, { log: createLogger({ format: 'json', write: () => {} }) });
    const noop = defineMethod({
      name: 'bench.noop',
      summary: 'Does nothing',
      scope: 'conversation',
      cost: 'read',
      params: z.strictObject({}),
      result: z.object({ ok: z.boolean() }),
      example: { params: {}, result: { ok: true } },
      async handle() {
        return { ok: true };
      },
    });
    const flood = defineMethod({
      name: 'bench.flood',
      summary: 'Sends notifications until it is cancelled',
      scope: 'conversation',
      cost: 'read',
      params: z.strictObject({}),
      result: z.object({}),
      example: { params: {}, result: {} },
      async handle(_params, { notify, signal }) {
        const data = 'x'.repeat(16 << 10);
        while (!signal.aborted) await notify('bench.data', { data });
        return {};
      },
    });
    const gateway = createGateway(services, createRegistry([noop, flood]));
    attachWebSocket(server, services, gateway, { perKeyMax: 1e9, connectionsMax: 1e9 });
  }

  process.on('disconnect', () => process.exit());
  process.on('message', () => {
    globalThis.gc?.();
    globalThis.gc?.();
    const { rss, heapUsed, external } = process.memoryUsage();
    process.send?.({ rss, used: heapUsed + external });
  });
  server.listen(0, '127.0.0.1', () => process.send?.({ port: (server.address() as AddressInfo).port }));
}
