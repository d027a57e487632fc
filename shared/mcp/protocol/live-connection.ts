// An open connection to one MCP server. It reconnects once when an HTTP server no longer has the session, and lists the
// tools again when the server announces a change. Calls in flight on a replaced session finish there.
import { orAbort } from '../../async.ts';
import type { Clock } from '../../clock.ts';
import { RpcError, toCancelled } from '../../errors.ts';
import { SessionGone } from '../session-gone.ts';
import type { McpCall, McpConnection } from '../tools/mcp-connection.ts';
import type { McpResult } from '../tools/result.ts';
import { type ClientSession, openClientSession } from './client-session.ts';
import type { Plan } from './connector.ts';
import { createRefresher } from './refresh.ts';

export interface LiveConnection {
  /** The current state. It is a new object after the tools were listed again. */
  readonly connection: McpConnection;
  call(call: McpCall): Promise<McpResult>;
  /** Lists the tools again; reconnects if the server no longer has the session. */
  refresh(signal: AbortSignal): Promise<void>;
  /** Resolves when the announced changes have been listed. Never rejects. */
  ready(): Promise<void>;
  /** Resolves when the connection has ended and will not be replaced. */
  readonly ended: Promise<void>;
  close(): Promise<void>;
}

export interface LiveConnectionOptions {
  readonly name: string;
  readonly sessionId: string | undefined;
  readonly plan: Plan;
  readonly allowed: ReadonlySet<string> | undefined;
  readonly clock: Clock;
  /** When the caller connected the server, if that was on another instance or before a restart. Default: now. */
  readonly connectedAtMs?: number | undefined;
  /** Aborts work for which no caller waits: reconnecting, and listing tools after a change. */
  readonly closing: AbortSignal;
}

/** Throws the errors of client.ts. */
export async function openLiveConnection(options: LiveConnectionOptions, signal: AbortSignal): Promise<LiveConnection> {
  const { clock, closing, connectedAtMs = clock.now() } = options;
  const closed = new AbortController();
  const background = AbortSignal.any([closing, closed.signal]);
  const { promise: ended, resolve: end } = Promise.withResolvers<void>();
  const refresher = createRefresher(() => refresh(background));
  let renewing: Promise<void> | undefined;
  /** A change that was announced while the first session was being opened. */
  let hasEarlyChange = false;
  let onToolsChanged = (): void => {
    hasEarlyChange = true;
  };

  const open = (openSignal: AbortSignal): Promise<ClientSession> =>
    openClientSession({ ...options, connectedAtMs, onToolsChanged: () => onToolsChanged() }, openSignal);

  const stop = (): void => {
    closed.abort(disconnected());
    refresher.stop();
    end();
  };

  /** The connection ends with its current session. */
  const watch = (session: ClientSession): void => {
    void session.ended.then(() => {
      if (session === current) stop();
    });
  };

  const replace = async (lost: ClientSession): Promise<void> => {
    const session = await open(background);
    if (closed.signal.aborted) {
      await session.close();
      throw disconnected();
    }
    current = session;
    watch(session);
    await lost.retire();
  };

  /** Calls whose session is gone share one reconnect. */
  const renew = async (lost: ClientSession): Promise<void> => {
    if (lost !== current) return;
    renewing ??= replace(lost).finally(() => {
      renewing = undefined;
    });
    return renewing;
  };

  const withSession = async <R>(callSignal: AbortSignal, work: (session: ClientSession) => Promise<R>): Promise<R> => {
    const session = current;
    try {
      return await session.using(work);
    } catch (error) {
      if (!(error instanceof SessionGone)) throw error;
      await orCancelled(renew(session), callSignal);
      return current.using(work);
    }
  };

  const refresh = (listSignal: AbortSignal): Promise<void> =>
    withSession(listSignal, (session) => session.list(listSignal));

  let current = await open(signal);
  onToolsChanged = refresher.changed;
  watch(current);
  if (hasEarlyChange) refresher.changed();

  return {
    get connection() {
      return current.connection;
    },
    ended,
    refresh,
    ready: refresher.ready,
    call: (call) => withSession(call.signal, (session) => session.callTool(call)),

    async close() {
      stop();
      await current.close();
    },
  };
}

function disconnected(): RpcError {
  return new RpcError('not_found', { message: 'Not found: the MCP server has been disconnected' });
}

/**
 * Waits for `work`, or until the signal aborts; `work` continues then. Throws the reason of the abort if it is an
 * RpcError, else `cancelled`.
 */
export async function orCancelled<R>(work: Promise<R>, signal: AbortSignal): Promise<R> {
  try {
    return await orAbort(work, signal);
  } catch (error) {
    throw error === signal.reason ? toCancelled(error, signal) : error;
  }
}
