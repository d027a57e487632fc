// The connections to one provider. An idle one is kept until the provider closes it, because a new one costs two or
// three round trips before the first byte of a prompt; after a pause of the process all idle ones are closed, because
// the network may have dropped them. TLS sessions are resumed by node's agent.
import http from 'node:http';
import https from 'node:https';
import type { Duplex } from 'node:stream';
import { type Clock, systemClock } from '../../../clock.ts';

/** Most connections of one process to one provider; further prompts wait within their deadline. */
const SOCKETS_MAX = 1_024;
/**
 * An idle connection is closed after this time, or earlier if the provider's `Keep-Alive` header names a shorter one.
 */
export const IDLE_MS_MAX = 600_000;
/** A connection that was opened ahead of a prompt is closed after this time if nothing has used it. */
const AHEAD_MS = 10_000;
/** While connections are idle, a tick records this often that the process runs. */
const TICK_MS = 2_000;
/** A tick that is later than this shows that the process was stopped: a frozen instance, a laptop that slept. */
const STOPPED_MS = 6_000;

export interface Connections {
  readonly agent: http.Agent;
  readonly request: typeof http.request;
  /** Call before each request. Closes the idle connections of a process that was stopped. */
  check(): void;
  /** Opens a connection to the origin of the last request, for a prompt that will need one soon, unless one is idle. */
  openAhead(): void;
  /** Closes the idle connections: one of them turned out to be closed by the provider. */
  closeIdle(): void;
}

interface Ahead {
  readonly origin: string;
  readonly socket: Duplex;
}

export function createConnections(
  protocol: 'http:' | 'https:',
  { proxyEnv, clock = systemClock }: { readonly proxyEnv?: http.ProxyEnv | undefined; readonly clock?: Clock } = {},
): Connections {
  const options = { ...(proxyEnv && { proxyEnv }), keepAlive: true, maxSockets: SOCKETS_MAX, timeout: IDLE_MS_MAX };
  const agent = protocol === 'http:' ? new http.Agent(options) : new https.Agent(options);
  const connect = agent.createConnection.bind(agent);
  type ConnectOptions = Parameters<typeof connect>[0];
  let last: ConnectOptions | undefined;
  let ahead: Ahead | undefined;
  let ticking: NodeJS.Timeout | undefined;
  let seen = { wallMs: clock.now(), atMs: clock.monotonic() };

  agent.createConnection = (wanted, callback) => {
    // The headers of the request contain its credential, which is not kept.
    last = { ...wanted, headers: undefined };
    const opened = ahead;
    if (opened === undefined || opened.origin !== originOf(wanted)) return connect(wanted, callback);
    ahead = undefined;
    return opened.socket;
  };

  const hasIdle = (): boolean => Object.values(agent.freeSockets).some((sockets) => (sockets?.length ?? 0) > 0);
  const closeIdle = (): void => {
    for (const socket of Object.values(agent.freeSockets).flatMap((sockets) => sockets ?? [])) socket.destroy();
    ahead?.socket.destroy();
    ahead = undefined;
  };
  const check = (): void => {
    const now = { wallMs: clock.now(), atMs: clock.monotonic() };
    // While a machine sleeps, only its wall clock continues.
    const lateMs = Math.max(now.wallMs - seen.wallMs, now.atMs - seen.atMs);
    if (ticking !== undefined && lateMs > STOPPED_MS) closeIdle();
    seen = now;
    ticking ??= setInterval(tick, TICK_MS).unref();
  };
  const tick = (): void => {
    check();
    if (hasIdle() || Object.keys(agent.sockets).length > 0) return;
    clearInterval(ticking);
    ticking = undefined;
  };

  return {
    agent,
    request: protocol === 'http:' ? http.request : https.request,
    check,
    closeIdle,
    openAhead() {
      // Through a proxy a connection is more than a socket.
      if (last === undefined || ahead !== undefined || proxyEnv !== undefined) return;
      check();
      if (hasIdle()) return;
      const socket = connect(last);
      if (socket == null) return;
      const opened: Ahead = { origin: originOf(last), socket };
      ahead = opened;
      const drop = (): void => {
        clearTimeout(unused);
        if (ahead === opened) ahead = undefined;
      };
      const unused = setTimeout(() => {
        if (ahead === opened) socket.destroy();
      }, AHEAD_MS).unref();
      socket.once('close', drop);
      // The request that uses the connection gets the error; without one, nothing has failed.
      socket.on('error', drop);
    },
  };
}

function originOf({ host, port }: http.ClientRequestArgs): string {
  return `${host}:${port}`;
}
