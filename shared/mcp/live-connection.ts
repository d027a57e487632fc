// An open connection to one MCP server. It reconnects once when an HTTP server has forgotten the session, and lists the
// tools again when the server announces a change. Calls in flight on a replaced connection finish there.
import { orAbort } from '../async.ts';
import type { Clock } from '../clock.ts';
import { RpcError, toCancelled } from '../errors.ts';
import type { McpClient } from './client.ts';
import type { Plan } from './connector.ts';
import type { McpTool, Offer, OmittedTool } from './offer.ts';
import { createRefresher } from './refresh.ts';
import type { McpResult } from './result.ts';
import { SessionGone } from './session-gone.ts';

export interface McpConnection {
  readonly name: string;
  readonly sessionId: string | undefined;
  readonly transport: 'stdio' | 'http';
  readonly server: McpClient['server'];
  readonly protocolVersion: string;
  /** The tools of the server that are on the allow-list. */
  readonly tools: readonly McpTool[];
  /** Tools of the server that cannot be used, with the reason. */
  readonly omitted: readonly OmittedTool[];
  readonly connectedAtMs: number;
}

export interface McpCall {
  readonly tool: string;
  readonly arguments: Readonly<Record<string, unknown>>;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

export interface LiveConnection {
  /** The current state. It is a new object after the tools were listed again. */
  readonly connection: McpConnection;
  call(call: McpCall): Promise<McpResult>;
  /** Lists the tools again; reconnects if the server has forgotten the session. */
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

/** One connection of the client, which a reconnect replaces. */
interface Session {
  readonly client: McpClient;
  connection: McpConnection;
  calls: number;
  isReplaced: boolean;
}

/** Throws the errors of client.ts. */
export async function openLiveConnection(options: LiveConnectionOptions, signal: AbortSignal): Promise<LiveConnection> {
  const { name, sessionId, plan, allowed, clock, closing } = options;
  const { connectedAtMs = clock.now() } = options;
  const closed = new AbortController();
  const background = AbortSignal.any([closing, closed.signal]);
  const { promise: ended, resolve: end } = Promise.withResolvers<void>();
  const refresher = createRefresher(() => refresh(background));
  let renewing: Promise<void> | undefined;
  let isOpen = false;
  let hasEarlyChange = false;
  const onToolsChanged = (): void => {
    if (isOpen) refresher.changed();
    else hasEarlyChange = true;
  };

  const open = async (openSignal: AbortSignal): Promise<Session> => {
    const client = await plan.open(openSignal, onToolsChanged);
    try {
      const offer = await client.listTools(allowed, openSignal);
      const { server, protocolVersion } = client;
      const { transport } = plan;
      const fixed = { name, sessionId, transport, server, protocolVersion, connectedAtMs };
      return { client, connection: { ...fixed, ...offer }, calls: 0, isReplaced: false };
    } catch (error) {
      await client.close();
      throw error;
    }
  };

  const watch = (session: Session): void => {
    void session.client.ended.then(() => {
      if (session === current) stop();
    });
  };

  const stop = (): void => {
    closed.abort(disconnected());
    refresher.stop();
    end();
  };

  /** Calls whose session is gone share one reconnect. */
  const renew = (lost: Session): Promise<void> => {
    if (lost !== current) return Promise.resolve();
    renewing ??= open(background)
      .then(async (session) => {
        if (closed.signal.aborted) {
          await session.client.close();
          throw disconnected();
        }
        lost.isReplaced = true;
        current = session;
        watch(session);
        if (lost.calls === 0) await lost.client.close();
      })
      .finally(() => {
        renewing = undefined;
      });
    return renewing;
  };

  const track = async <R>(session: Session, work: (session: Session) => Promise<R>): Promise<R> => {
    session.calls++;
    try {
      return await work(session);
    } finally {
      session.calls--;
      if (session.isReplaced && session.calls === 0) void session.client.close();
    }
  };

  const withSession = async <R>(callSignal: AbortSignal, work: (session: Session) => Promise<R>): Promise<R> => {
    const session = current;
    try {
      return await track(session, work);
    } catch (error) {
      if (!(error instanceof SessionGone)) throw error;
      await orCancelled(renew(session), callSignal);
      return track(current, work);
    }
  };

  const list = async (session: Session, listSignal: AbortSignal): Promise<Offer> => {
    const offer = await session.client.listTools(allowed, listSignal);
    session.connection = { ...session.connection, ...offer };
    return offer;
  };

  const refresh = async (listSignal: AbortSignal): Promise<void> => {
    await withSession(listSignal, (session) => list(session, listSignal));
  };

  let current = await open(signal);
  isOpen = true;
  watch(current);
  if (hasEarlyChange) refresher.changed();

  return {
    get connection() {
      return current.connection;
    },
    ended,
    refresh,
    ready: refresher.ready,

    call: ({ tool, arguments: args, timeoutMs, signal: callSignal }) =>
      withSession(callSignal, async (session) => {
        const has = (offer: Offer): boolean => offer.tools.some((one) => one.name === tool);
        // The server may have added the tool since the last list.
        if (!has(session.connection) && !has(await list(session, callSignal))) throw missing(session.connection, tool);
        return session.client.callTool(tool, args, { signal: callSignal, timeoutMs });
      }),

    async close() {
      stop();
      await current.client.close();
    },
  };
}

function missing({ name, omitted }: McpConnection, tool: string): RpcError {
  const left = omitted.find((one) => one.tool === tool);
  const why = left === undefined ? `no such tool on "${name}"` : `the tool of "${name}" cannot be used: ${left.reason}`;
  return new RpcError('not_found', { message: `Not found: ${why}` });
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
