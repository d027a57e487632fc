// One connection as it is kept: reconnects once when an HTTP server has forgotten the session, and lists the tools
// again when the server announces a change. Calls in flight on a replaced connection may finish on it.
import { orAbort } from '../async.ts';
import type { Clock } from '../clock.ts';
import { RpcError, toCancelled } from '../errors.ts';
import type { McpClient } from './client.ts';
import type { Plan } from './connect.ts';
import type { McpTool, Offer, OmittedTool } from './offer.ts';
import { createRefresher } from './refresh.ts';
import type { McpResult } from './result.ts';
import { SessionGone } from './session.ts';

export interface McpConnection {
  readonly name: string;
  readonly sessionId: string | undefined;
  readonly transport: 'stdio' | 'http';
  readonly server: McpClient['server'];
  readonly protocolVersion: string;
  /** The tools on the allow-list. */
  readonly tools: readonly McpTool[];
  /** Tools of the server that cannot be used, and why. */
  readonly omitted: readonly OmittedTool[];
  readonly connectedAtMs: number;
}

export interface McpCall {
  readonly tool: string;
  readonly arguments: Readonly<Record<string, unknown>>;
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

export interface Link {
  /** The current state; another object after the tools were listed again. */
  readonly connection: McpConnection;
  call(call: McpCall): Promise<McpResult>;
  /** Lists the tools again, on a new connection where the server has forgotten this one. */
  refresh(signal: AbortSignal): Promise<void>;
  /** Resolves when the announced changes are listed. Never rejects. */
  ready(): Promise<void>;
  /** Resolves when the connection has ended and no new one replaces it. */
  readonly ended: Promise<void>;
  close(): Promise<void>;
}

export interface LinkOptions {
  readonly name: string;
  readonly sessionId: string | undefined;
  readonly plan: Plan;
  readonly allowed: ReadonlySet<string> | undefined;
  readonly clock: Clock;
  /** When the caller connected it, where that was on another instance or before. */
  readonly connectedAtMs?: number | undefined;
  /** Aborts work that no caller waits for: reconnects, and lists after a change. */
  readonly closing: AbortSignal;
}

/** One connection to the server. */
interface Session {
  readonly client: McpClient;
  connection: McpConnection;
  calls: number;
  isReplaced: boolean;
}

/** Throws as client.ts. */
export async function openLink(options: LinkOptions, signal: AbortSignal): Promise<Link> {
  const { name, sessionId, plan, allowed, clock, closing } = options;
  const { connectedAtMs = clock.now() } = options;
  const over = new AbortController();
  const background = AbortSignal.any([closing, over.signal]);
  const { promise: ended, resolve: end } = Promise.withResolvers<void>();
  const refresher = createRefresher(() => refresh(background));
  let renewing: Promise<void> | undefined;
  let isOpen = false;
  let isChangedEarly = false;
  const onToolsChanged = (): void => {
    if (isOpen) refresher.changed();
    else isChangedEarly = true;
  };

  const open = async (openSignal: AbortSignal): Promise<Session> => {
    const client = await plan.open(openSignal, onToolsChanged);
    try {
      const offer = await client.listTools(allowed, openSignal);
      const { server, protocolVersion } = client;
      const { transport } = plan;
      const known = { name, sessionId, transport, server, protocolVersion, connectedAtMs };
      return { client, connection: { ...known, ...offer }, calls: 0, isReplaced: false };
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
    over.abort(ending());
    refresher.stop();
    end();
  };

  /** Calls that lose the same session share one reconnect. */
  const renew = (lost: Session): Promise<void> => {
    if (lost !== current) return Promise.resolve();
    renewing ??= open(background)
      .then(async (session) => {
        if (over.signal.aborted) {
          await session.client.close();
          throw ending();
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
  if (isChangedEarly) refresher.changed();

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
  const why =
    left === undefined ? `no such tool on "${name}"` : `the tool of "${name}" is left out, because ${left.reason}`;
  return new RpcError('not_found', { message: `Not found: ${why}` });
}

function ending(): RpcError {
  return new RpcError('not_found', { message: 'Not found: the MCP server has been disconnected' });
}

/** Waits until the signal aborts at most; the awaited work continues. Throws RpcError `cancelled` for other reasons. */
export async function orCancelled<R>(work: Promise<R>, signal: AbortSignal): Promise<R> {
  try {
    return await orAbort(work, signal);
  } catch (error) {
    throw error === signal.reason ? toCancelled(error, signal) : error;
  }
}
