// The companion's HTTP server: `/ws` for callers with a key, `POST /exchange` and `POST /jsonrpc` for the jsonrpc
// function, `/health`.
import type { OidcOptions } from '../../shared/auth/oidc.ts';
import { RpcError, toRpcError } from '../../shared/errors.ts';
import { EXCHANGE_PATH } from '../../shared/forward/exchange.ts';
import { createGateway } from '../../shared/gateway.ts';
import { errorFields } from '../../shared/log.ts';
import type { MethodContext } from '../../shared/methods/define-method.ts';
import { PATHS } from '../../shared/protocol.ts';
import type { Registry } from '../../shared/rpc/method.ts';
import type { Services } from '../../shared/services.ts';
import { createHealthHandler } from '../health/handler.ts';
import { type HttpHandler, pathOf, requestIdOf, sendError } from '../server/http.ts';
import { createHttpServer, type HttpServer } from '../server/node-server.ts';
import { createRequestGuard } from '../server/request-guard.ts';
import { createForwardedHandlers } from './forwarded.ts';
import { requireUpgrade } from './handshake.ts';
import { attachWebSocket, type WebSocketEndpoint, type WebSocketOptions } from './server.ts';

export type CompanionServer = HttpServer & { readonly sockets: WebSocketEndpoint };

/** Creates the server; the caller must call listen(). */
export function createCompanionServer(
  services: Services,
  registry: Registry<MethodContext>,
  options: WebSocketOptions & OidcOptions = {},
): CompanionServer {
  const gateway = createGateway(services, registry);
  const { config, origins } = services;
  const guard = createRequestGuard({ host: config.deployed ? undefined : config.host, origins });
  const health = createHealthHandler(origins, async () => ({ services, gateway }));
  const forwarded = createForwardedHandlers(services, gateway, options);
  const routes: ReadonlyMap<string, HttpHandler> = new Map([
    ['/', health],
    [PATHS.health, health],
    [PATHS.jsonrpc, forwarded.call],
    [EXCHANGE_PATH, forwarded.exchange],
    [PATHS.socket, requireUpgrade],
  ]);
  const listener: HttpHandler = async (req, res) => {
    try {
      const handler = routes.get(pathOf(req));
      if (handler === undefined)
        throw new RpcError('not_found', { message: 'Not found: this service serves /ws and /health' });
      await handler(req, res);
    } catch (thrown) {
      const error = toRpcError(thrown);
      if (error.reason === 'internal') services.log.error('request failed', errorFields(error.cause));
      sendError(res, error, requestIdOf(req));
    }
  };
  const server = createHttpServer(listener, { guard, tracer: services.tracer });
  server.once('listening', () => void forwarded.warm());
  return Object.assign(server, { sockets: attachWebSocket(server, services, gateway, options) });
}
