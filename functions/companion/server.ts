// `GET /ws`: accepts WebSockets (RFC 6455) on an existing HTTP server. Owns the handshake: authentication, limits and
// rejections.
import type { IncomingMessage, Server } from 'node:http';
import type { Duplex } from 'node:stream';
import { type ServerOptions, WebSocketServer } from 'ws';
import { bounded } from '../../shared/async.ts';
import type { Caller } from '../../shared/auth/keys/keys.ts';
import { CredentialError } from '../../shared/auth/wrong-credentials.ts';
import { RpcError, toRpcError } from '../../shared/errors.ts';
import type { Gateway } from '../../shared/gateway.ts';
import { errorFields, severityOf } from '../../shared/log.ts';
import { SUBPROTOCOL } from '../../shared/protocol.ts';
import { BODY_BYTES_MAX } from '../../shared/rpc/parse.ts';
import type { Services } from '../../shared/services.ts';
import { inTrace, readTrace } from '../../shared/telemetry/trace.ts';
import { requestIdOf } from '../server/http.ts';
import { createRequestGuard } from '../server/request-guard.ts';
import { refuseUpgrade } from '../server/upgrade.ts';
import { type ConnectionHost, type ConnectionTimes, SocketConnection } from './connection.ts';
import { Connections } from './connections.ts';
import { admitUpgrade } from './handshake.ts';
import { createKeyWatch } from './key-watch.ts';

export interface WebSocketOptions extends Partial<ConnectionTimes> {
  /** Maximum number of connections per key on this instance. Default 10. */
  readonly perKeyMax?: number;
  /** Maximum number of connections on this instance. Default 10,000. */
  readonly connectionsMax?: number;
  /** Interval at which connections are checked. Default 1 s. */
  readonly tickMs?: number;
  /** Interval at which keys are looked up, and at which the revoked flag in the limiter's document is read. */
  readonly keyCheckMs?: number;
  readonly revokedCheckMs?: number;
}

export interface WebSocketEndpoint {
  /** Number of open connections. */
  readonly size: number;
  /**
   * Refuses new connections and announces the close to the open ones. Resolves when they have ended, at the latest
   * shortly after `graceMs`.
   */
  drain(graceMs: number): Promise<void>;
  /** Ends all connections immediately. */
  close(): void;
}

const HANDSHAKE_MS = 10_000;
const HANDSHAKES_MAX = 256;
const FRAGMENTS_MAX = 1_024;
/** How long to wait for the close frame of the peer. */
const CLOSE_MS = 5_000;

// Declared with a wider type, because the types of the library lack two of its options.
const SOCKET_OPTIONS: ServerOptions & { readonly maxFragments: number; readonly closeTimeout: number } = {
  noServer: true,
  clientTracking: false,
  perMessageDeflate: false,
  maxPayload: BODY_BYTES_MAX,
  maxFragments: FRAGMENTS_MAX,
  closeTimeout: CLOSE_MS,
  handleProtocols: (offered) => (offered.has(SUBPROTOCOL) ? SUBPROTOCOL : false),
};

/** Handles the upgrade requests of the server. */
export function attachWebSocket(
  server: Server,
  services: Services,
  gateway: Gateway,
  options: WebSocketOptions = {},
): WebSocketEndpoint {
  const { perKeyMax = 10, connectionsMax = 10_000, tickMs = 1_000 } = options;
  const { clock, config, log, origins, store, wrongCredentials } = services;
  const guard = createRequestGuard({ host: config.deployed ? undefined : config.host, origins });
  const handshakeParts = { gateway, store, clock, wrongCredentials, guard };
  const times: ConnectionTimes = {
    pingMs: options.pingMs ?? 30_000,
    ageMaxMs: options.ageMaxMs ?? 55 * 60_000,
    announceCloseMs: options.announceCloseMs ?? 120_000,
    stuckMs: options.stuckMs ?? 10_000,
  };
  const connections = new Connections({
    perKeyMax,
    tickMs,
    onFirst: () => keyWatch.start(),
    onLast: () => keyWatch.stop(),
  });
  const keyWatch = createKeyWatch({ store, gateway, log, connections: connections.all }, options);
  const host: ConnectionHost = {
    services,
    gateway,
    times,
    closed: (connection) => connections.remove(connection),
  };
  let handshakes = 0;

  const sockets = new WebSocketServer(SOCKET_OPTIONS);
  // The request is not a valid WebSocket handshake (version, key or method).
  sockets.on('wsClientError', (error, stream, req) => {
    const wrong = new RpcError('invalid_request', { message: `not a WebSocket handshake: ${error.message}` });
    refuseUpgrade(stream, wrong, requestIdOf(req), 426);
  });

  server.on('upgrade', (req: IncomingMessage, stream: Duplex, head: Buffer) => {
    // After `upgrade`, node removes its listeners from the socket, and an error without a listener would end the
    // process.
    stream.on('error', ignore);
    const upgraded = inTrace(readTrace(req.headers), () => upgrade(req, stream, head));
    upgraded.catch((thrown: unknown) => {
      const error = toRpcError(thrown);
      if (!(error instanceof CredentialError)) {
        log.log(severityOf(error.reason), 'socket refused', {
          request_id: requestIdOf(req),
          outcome: error.reason,
          ...(error.reason === 'internal' || error.reason === 'unavailable' ? errorFields(error.cause) : {}),
        });
      }
      refuseUpgrade(stream, error, requestIdOf(req));
    });
  });

  async function upgrade(req: IncomingMessage, stream: Duplex, head: Buffer): Promise<void> {
    if (connections.isDraining)
      throw new RpcError('unavailable', { message: 'this instance is shutting down: reconnect' });
    if (handshakes >= HANDSHAKES_MAX || connections.all.size >= connectionsMax) {
      throw new RpcError('unavailable', { message: 'this instance has the maximum number of connections: reconnect' });
    }
    handshakes++;
    let caller: Caller;
    try {
      caller = await bounded({ timeoutMs: HANDSHAKE_MS, toTimeout: tooSlow }, ({ signal }) =>
        admitUpgrade(req, handshakeParts, signal),
      );
    } finally {
      handshakes--;
    }
    if (!stream.writable) return;
    connections.checkRoom(caller.keyId);
    sockets.handleUpgrade(req, stream, head, (socket) =>
      connections.add(new SocketConnection(host, socket, stream, caller, performance.now())),
    );
  }

  return {
    get size() {
      return connections.all.size;
    },
    drain: (graceMs) => connections.drain(graceMs),
    close: () => connections.close(),
  };
}

/** One function is shared by all sockets: a closure created in the handler would keep its request in memory. */
function ignore(): void {}

function tooSlow(): RpcError {
  return new RpcError('unavailable', { message: 'the handshake took too long' });
}
