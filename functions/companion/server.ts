// `GET /ws`: WebSockets (RFC 6455) on an existing HTTP server. Owns the handshake: admission, bounds and
// refusals. No rule of the domain.
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
import { inTrace, readTrace } from '../../shared/trace.ts';
import { requestIdOf } from '../server/http.ts';
import { createRequestGuard } from '../server/request-guard.ts';
import { refuseUpgrade } from '../server/upgrade.ts';
import { type ConnectionHost, type ConnectionTimes, SocketConnection } from './connection.ts';
import { Connections } from './connections.ts';
import { admitUpgrade } from './handshake.ts';
import { createKeyWatch } from './key-watch.ts';

export interface WebSocketOptions extends Partial<ConnectionTimes> {
  /** Connections per key on this instance. */
  readonly perKeyMax?: number;
  /** Connections on this instance. */
  readonly connectionsMax?: number;
  /** How often connections look at the clock. */
  readonly tickMs?: number;
  /** How often keys are looked up again, and how often the limiter's revoke flag is read. */
  readonly keyCheckMs?: number;
  readonly revokedCheckMs?: number;
}

export interface WebSocketEndpoint {
  /** Open connections. */
  readonly size: number;
  /**
   * Refuses new connections, calls announceClose on all, and resolves when they are gone, at the latest soon after
   * `graceMs`.
   */
  drain(graceMs: number): Promise<void>;
  /** Ends everything now. */
  close(): void;
}

const HANDSHAKE_MS = 10_000;
const HANDSHAKES_MAX = 256;
const FRAGMENTS_MAX = 1_024;
/** A peer has this long to answer a close. */
const CLOSE_MS = 5_000;

// Declared wider than the library's types, which lag behind its options.
const SOCKET_OPTIONS: ServerOptions & { readonly maxFragments: number; readonly closeTimeout: number } = {
  noServer: true,
  clientTracking: false,
  perMessageDeflate: false,
  maxPayload: BODY_BYTES_MAX,
  maxFragments: FRAGMENTS_MAX,
  closeTimeout: CLOSE_MS,
  handleProtocols: (offered) => (offered.has(SUBPROTOCOL) ? SUBPROTOCOL : false),
};

/** Takes over the server's upgrade requests. */
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
  // Not a WebSocket handshake after all (version, key, method).
  sockets.on('wsClientError', (error, stream, req) => {
    const wrong = new RpcError('invalid_request', { message: `not a WebSocket handshake: ${error.message}` });
    refuseUpgrade(stream, wrong, requestIdOf(req), 426);
  });

  server.on('upgrade', (req: IncomingMessage, stream: Duplex, head: Buffer) => {
    // From here on the socket is ours alone: an error without a listener would end the process.
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
      throw new RpcError('unavailable', { message: 'this instance has no room for another connection' });
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

/** One function for all sockets: a closure made beside a request would keep the request. */
function ignore(): void {}

function tooSlow(): RpcError {
  return new RpcError('unavailable', { message: 'the handshake took too long' });
}
