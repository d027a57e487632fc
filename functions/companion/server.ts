// `GET /ws`: WebSockets (RFC 6455) on an existing HTTP server. Owns the connections: admission, numbers, the clock that
// all of them share, the re-check of their keys, and the close that a shutdown announces. No rule of the domain.
import type { IncomingMessage, Server } from 'node:http';
import type { Duplex } from 'node:stream';
import { type ServerOptions, type WebSocket, WebSocketServer } from 'ws';
import { bounded, settledWithin } from '../../shared/async.ts';
import type { Caller } from '../../shared/auth/keys/keys.ts';
import { CredentialError } from '../../shared/auth/wrong-credentials.ts';
import { RpcError, toRpcError } from '../../shared/errors.ts';
import type { Gateway } from '../../shared/gateway.ts';
import { errorFields } from '../../shared/log.ts';
import { CLOSE, SUBPROTOCOL } from '../../shared/protocol.ts';
import { BODY_BYTES_MAX } from '../../shared/rpc/parse.ts';
import type { Services } from '../../shared/services.ts';
import { requestIdOf } from '../server/http.ts';
import { createRequestGuard } from '../server/request-guard.ts';
import { type ConnectionHost, type ConnectionTimes, SocketConnection } from './connection.ts';
import { admitUpgrade, refuseUpgrade } from './handshake.ts';
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
/** After the grace of a drain, for close frames to be exchanged. */
const LAST_MS = 500;

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
  const connections = new Set<SocketConnection>();
  const perKey = new Map<string, number>();
  const keyWatch = createKeyWatch({ store, gateway, log, connections }, options);
  let handshakes = 0;
  let draining = false;
  let emptied = Promise.withResolvers<void>();

  // Declared wider than the library's types, which lag behind its options.
  const socketOptions: ServerOptions & { readonly maxFragments: number; readonly closeTimeout: number } = {
    noServer: true,
    clientTracking: false,
    perMessageDeflate: false,
    maxPayload: BODY_BYTES_MAX,
    maxFragments: FRAGMENTS_MAX,
    closeTimeout: CLOSE_MS,
    handleProtocols: (offered) => (offered.has(SUBPROTOCOL) ? SUBPROTOCOL : false),
  };
  const sockets = new WebSocketServer(socketOptions);
  // Not a WebSocket handshake after all (version, key, method).
  sockets.on('wsClientError', (error, stream, req) => {
    const wrong = new RpcError('invalid_request', { message: `not a WebSocket handshake: ${error.message}` });
    refuseUpgrade(stream, wrong, requestIdOf(req), 426);
  });

  server.on('upgrade', (req: IncomingMessage, stream: Duplex, head: Buffer) => {
    // From here on the socket is ours alone: an error without a listener would end the process.
    stream.on('error', ignore);
    upgrade(req, stream, head).catch((thrown: unknown) => {
      const error = toRpcError(thrown);
      const internal = error.reason === 'internal';
      if (!(error instanceof CredentialError)) {
        log.log(internal ? 'ERROR' : 'INFO', 'socket refused', {
          request_id: requestIdOf(req),
          outcome: error.reason,
          ...(internal || error.reason === 'unavailable' ? errorFields(error.cause) : {}),
        });
      }
      refuseUpgrade(stream, error, requestIdOf(req));
    });
  });

  async function upgrade(req: IncomingMessage, stream: Duplex, head: Buffer): Promise<void> {
    if (draining) throw new RpcError('unavailable', { message: 'this instance is shutting down: reconnect' });
    if (handshakes >= HANDSHAKES_MAX || connections.size >= connectionsMax) {
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
    const held = perKey.get(caller.keyId) ?? 0;
    if (held >= perKeyMax) {
      throw new RpcError('rate_limited', {
        message: `Too Many Requests: at most ${perKeyMax} connections per key`,
        data: { limit: perKeyMax },
        retryAfterMs: 1_000,
      });
    }
    sockets.handleUpgrade(req, stream, head, (socket) => accept(socket, stream, caller));
  }

  function accept(socket: WebSocket, stream: Duplex, caller: Caller): void {
    perKey.set(caller.keyId, (perKey.get(caller.keyId) ?? 0) + 1);
    const connection = new SocketConnection(host, socket, stream, caller, performance.now());
    connections.add(connection);
    // After a stall of this process pongs may be waiting to be read. The tick runs after that read, so that no
    // connection is closed for silence that only the stall has caused.
    timer ??= setInterval(() => setImmediate(tick), tickMs);
    keyWatch.start();
    if (draining) connection.announceClose('shutdown', performance.now());
  }

  const host: ConnectionHost = {
    services,
    gateway,
    times,
    closed(connection) {
      const { keyId } = connection.caller;
      connections.delete(connection);
      const left = (perKey.get(keyId) ?? 1) - 1;
      if (left === 0) perKey.delete(keyId);
      else perKey.set(keyId, left);
      if (connections.size > 0) return;
      keyWatch.stop();
      clearInterval(timer);
      timer = undefined;
      emptied.resolve();
    },
  };

  let timer: NodeJS.Timeout | undefined;
  function tick(): void {
    const nowMs = performance.now();
    for (const connection of connections) connection.tick(nowMs);
  }

  return {
    get size() {
      return connections.size;
    },
    async drain(graceMs) {
      draining = true;
      if (connections.size === 0) return;
      emptied = Promise.withResolvers();
      const untilMs = performance.now() + graceMs;
      for (const connection of connections) connection.announceClose('shutdown', untilMs);
      await settledWithin(graceMs, emptied.promise);
      for (const connection of connections) connection.close(CLOSE.restart, 'reconnect');
      if (connections.size > 0) await settledWithin(LAST_MS, emptied.promise);
      for (const connection of connections) connection.destroy();
    },
    close() {
      draining = true;
      for (const connection of connections) connection.destroy();
    },
  };
}

/** One function for all sockets: a closure made beside a request would keep the request. */
function ignore(): void {}

function tooSlow(): RpcError {
  return new RpcError('unavailable', { message: 'the handshake took too long' });
}
