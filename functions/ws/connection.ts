// One socket: calls in, responses and notifications out, in order. It bounds what one peer can hold of this process (calls, bytes, time)
// and ends what belongs to the connection when the connection ends. Turns are not among that: they go on.
import type { Duplex } from 'node:stream';
import type { WebSocket } from 'ws';
import type { Caller } from '../../shared/auth/keys.ts';
import { RpcError } from '../../shared/errors.ts';
import type { Gateway, GatewayRequest } from '../../shared/gateway.ts';
import { errorFields } from '../../shared/log.ts';
import type { Connection } from '../../shared/methods/define-method.ts';
import type { Services } from '../../shared/services.ts';
import { CALLS_MAX, createInbox } from './inbox.ts';
import { createOutbox } from './outbox.ts';

/** Close codes of RFC 6455 and the IANA registry. */
export const CLOSE = { unsupported: 1003, policy: 1008, internal: 1011, restart: 1012, tryLater: 1013 } as const;

/** A planned close is announced with the time after which to reconnect: this, and a random part that spreads a crowd of clients. */
const RECONNECT_MS = 250;
const RECONNECT_SPREAD_MS = 1_500;

export interface ConnectionTimes {
  /** Between pings; a peer that shows no life for two of them is gone. */
  readonly pingMs: number;
  /** Age at which a connection is closed with 1012, below the platform's own cut of 60 minutes. */
  readonly ageMaxMs: number;
  /** How long calls in flight may take once the end of an old connection is announced. */
  readonly goodbyeMs: number;
  /** How long a peer may leave far too much unread. */
  readonly stuckMs: number;
}

export interface SocketConnection {
  readonly caller: Caller;
  /** The key as it stands now: other scopes end the connection, other limits are taken over. */
  refresh(caller: Caller): void;
  /** Looks at the clock: pings, ages, gives up. To be called every second; `nowMs` is monotonic. */
  tick(nowMs: number): void;
  /** Announces a planned close; closes with 1012 once nothing is in flight, at the latest at `untilMs`. */
  goodbye(reason: 'shutdown' | 'max_age', untilMs: number): void;
  close(code: number, reason: string): void;
  /** Ends it without a closing handshake. */
  destroy(): void;
}

export interface ConnectionParts {
  readonly socket: WebSocket;
  /** The stream below `socket`: it knows what is not sent yet. */
  readonly stream: Duplex;
  readonly caller: Caller;
  readonly services: Services;
  readonly gateway: Gateway;
  readonly times: ConnectionTimes;
  readonly nowMs: number;
  readonly onClose: () => void;
}

export function createConnection(parts: ConnectionParts): SocketConnection {
  const { socket, stream, services, gateway, times } = parts;
  const openedMs = parts.nowMs;
  let { caller } = parts;
  let pingedMs = parts.nowMs;
  let isAlive = true;
  let leaveAtMs: number | undefined;
  let ended: AbortController | undefined;
  const calls = new Set<AbortController>();
  let open: { readonly signal: AbortSignal; readonly streams: Connection['streams'] } | undefined;
  let pauses = 0;

  // Reading stops while the peer does not read (its responses would pile up), or while too many of its calls are being refused.
  const onPause = (): void => {
    if (++pauses === 1) socket.pause();
  };
  const onResume = (): void => {
    if (--pauses === 0) socket.resume();
  };
  const outbox = createOutbox(socket, stream, { stuckMs: times.stuckMs, onPause, onResume });
  const inbox = createInbox({
    handle: (body) => answer(body),
    refuse: (body) => answer(body, tooMany()),
    onPause,
    onResume,
  });

  const notify: NonNullable<GatewayRequest['notify']> = (method, params) =>
    outbox.send(JSON.stringify({ jsonrpc: '2.0', method, params }));

  async function answer(body: Buffer, refuseWith?: RpcError): Promise<void> {
    const call = new AbortController();
    calls.add(call);
    const later: (() => void)[] = [];
    try {
      const reply = await gateway.handle({
        caller,
        body,
        requestId: services.ids.next('req'),
        transport: 'ws',
        signal: call.signal,
        notify,
        connection: { ...scope(), afterReply: (work) => later.push(work) },
        ...(refuseWith && { refuseWith }),
      });
      if (reply.payload !== undefined && reply.unanswered !== true) outbox.send(JSON.stringify(reply.payload));
      if (reply.refusal?.reason === 'unauthorized') close(CLOSE.policy, 'the key is revoked');
    } catch (error) {
      // Every failure of a method is answered; what comes here is a defect of ours.
      services.log.log('ERROR', 'a message could not be handled', errorFields(error));
      close(CLOSE.internal, 'internal error');
    } finally {
      calls.delete(call);
      for (const work of later) work();
      leaveWhenIdle();
    }
  }

  /** Made at the first call: most of many connections are idle. */
  function scope(): NonNullable<typeof open> {
    ended ??= new AbortController();
    open ??= { signal: ended.signal, streams: new Map() };
    return open;
  }

  /** Nothing more is heard or told: what belongs to the connection ends. */
  function finish(): void {
    inbox.stop();
    const gone = new RpcError('cancelled', { message: 'the connection has ended' });
    ended?.abort(gone);
    for (const call of calls) call.abort(gone);
    for (const stop of open?.streams.values() ?? []) stop();
    outbox.stop();
  }

  function close(code: number, reason: string): void {
    socket.close(code, reason);
    // The answer to the close is to be read, whatever kept us from reading; ws itself bounds the wait.
    socket.resume();
    finish();
  }

  function goodbye(reason: 'shutdown' | 'max_age', untilMs: number): void {
    if (leaveAtMs !== undefined) return;
    leaveAtMs = untilMs;
    const retryAfterMs = RECONNECT_MS + Math.round(Math.random() * RECONNECT_SPREAD_MS);
    notify('gateway.reconnect', { reason, retry_after_ms: retryAfterMs });
    leaveWhenIdle();
  }

  function leaveWhenIdle(): void {
    if (leaveAtMs !== undefined && calls.size === 0 && inbox.isEmpty) close(CLOSE.restart, 'reconnect');
  }

  const onLife = (): void => {
    isAlive = true;
  };
  socket.on('ping', onLife);
  socket.on('pong', onLife);
  socket.on('message', (data, isBinary) => {
    isAlive = true;
    if (isBinary) refuseBinary();
    else if (leaveAtMs !== undefined) void answer(toBuffer(data), leaving());
    else inbox.add(toBuffer(data));
  });
  // A broken frame or a reset; ws closes with the right code by itself.
  socket.on('error', () => {});
  socket.once('close', () => {
    finish();
    parts.onClose();
  });

  function refuseBinary(): void {
    const error = new RpcError('unsupported_media_type', { data: { detail: 'send JSON-RPC in text messages' } });
    outbox.send(JSON.stringify({ jsonrpc: '2.0', error: error.toWire(services.ids.next('req')), id: null }));
    close(CLOSE.unsupported, 'binary messages are not supported');
  }

  return {
    get caller() {
      return caller;
    },
    refresh(now) {
      const isSame =
        now.scopes.size === caller.scopes.size && [...now.scopes].every((scope) => caller.scopes.has(scope));
      if (isSame) caller = now;
      else close(CLOSE.policy, 'the scopes of the key have changed');
    },
    tick(nowMs) {
      if (outbox.isStuck(nowMs)) close(CLOSE.tryLater, 'too much is unread');
      else if (leaveAtMs !== undefined && nowMs >= leaveAtMs) close(CLOSE.restart, 'reconnect');
      else if (nowMs - openedMs >= times.ageMaxMs) goodbye('max_age', nowMs + times.goodbyeMs);
      if (nowMs - pingedMs < times.pingMs) return;
      pingedMs = nowMs;
      const hasMoved = outbox.hasMoved();
      if (!isAlive && !hasMoved) {
        socket.terminate();
        return;
      }
      isAlive = false;
      if (socket.readyState === socket.OPEN) socket.ping();
    },
    goodbye,
    close,
    destroy: () => socket.terminate(),
  };
}

function tooMany(): RpcError {
  return new RpcError('unavailable', {
    message: `at most ${CALLS_MAX} calls may be in flight on a connection, and a bounded number wait`,
    data: { limit: CALLS_MAX },
    retryAfterMs: 1_000,
  });
}

function leaving(): RpcError {
  return new RpcError('unavailable', {
    message: 'this connection is being closed: reconnect',
    retryAfterMs: RECONNECT_MS,
  });
}

/** ws hands over one Buffer for its default binaryType, whatever its types allow for. */
function toBuffer(data: Buffer | ArrayBuffer | Buffer[]): Buffer {
  if (Buffer.isBuffer(data)) return data;
  return Array.isArray(data) ? Buffer.concat(data) : Buffer.from(data);
}
