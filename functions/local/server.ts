// The local gateway: every endpoint on one port, the same handlers as in the cloud.
import { toRpcError } from '../../shared/errors.ts';
import { createGateway } from '../../shared/gateway.ts';
import { errorFields } from '../../shared/log.ts';
import * as methods from '../../shared/methods/index.ts';
import { PATHS } from '../../shared/protocol.ts';
import { createRegistry } from '../../shared/rpc/method.ts';
import type { Services } from '../../shared/services.ts';
import { requireUpgrade } from '../companion/handshake.ts';
import { attachWebSocket, type WebSocketEndpoint } from '../companion/server.ts';
import { createHealthHandler } from '../health/handler.ts';
import { createJsonRpcHandler } from '../jsonrpc/handler.ts';
import { type HttpHandler, pathOf, requestIdOf, sendError } from '../server/http.ts';
import { createHttpServer, type HttpServer } from '../server/node-server.ts';
import { createRequestGuard } from '../server/request-guard.ts';
import { createWebhookHandler } from '../webhook/handler.ts';
import { createConsoleHandler } from './console.ts';

/** The server and its WebSockets. */
export type LocalServer = HttpServer & { readonly sockets: WebSocketEndpoint };

/** Routes by the first segment of the path; the handlers validate the rest. */
export function createLocalServer(services: Services): LocalServer {
  const gateway = createGateway(services, createRegistry(Object.values(methods)));
  const routes: ReadonlyMap<string, HttpHandler> = new Map([
    [PATHS.health, createHealthHandler(services.origins, async () => ({ services, gateway }))],
    [PATHS.jsonrpc, createJsonRpcHandler(services, gateway)],
    [PATHS.webhook, createWebhookHandler(services, gateway)],
    [PATHS.socket, requireUpgrade],
  ]);
  const page = createConsoleHandler([...routes.keys()]);
  const listener: HttpHandler = async (req, res) => {
    const path = pathOf(req);
    const handler = routes.get(`/${path.split('/', 2)[1]}`) ?? page;
    try {
      await handler(req, res);
    } catch (thrown) {
      const error = toRpcError(thrown);
      if (error.reason === 'internal') services.log.error('request failed', errorFields(error.cause));
      sendError(res, error, requestIdOf(req));
    }
  };
  const { config, origins, tracer } = services;
  const server = createHttpServer(listener, { guard: createRequestGuard({ host: config.host, origins }), tracer });
  return Object.assign(server, { sockets: attachWebSocket(server, services, gateway) });
}
