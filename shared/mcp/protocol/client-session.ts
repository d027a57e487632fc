// One session of the client with an MCP server: its tools, and the calls in flight on it. A reconnect replaces it.
import { RpcError } from '../../errors.ts';
import type { McpCall, McpConnection } from '../tools/mcp-connection.ts';
import type { Offer } from '../tools/offer.ts';
import type { McpResult } from '../tools/result.ts';
import type { McpClient } from './client.ts';
import type { Plan } from './connector.ts';

export interface ClientSession {
  /** The current state. It is a new object after the tools were listed again. */
  readonly connection: McpConnection;
  /** Resolves when either side has closed the session. */
  readonly ended: Promise<unknown>;
  /** Lists the tools again. Throws the errors of client.ts, as `callTool`. */
  list(signal: AbortSignal): Promise<void>;
  /** Throws `not_found` for a tool that is missing also after the tools were listed again. */
  callTool(call: McpCall): Promise<McpResult>;
  /** Runs `work` as a call in flight. */
  using<R>(work: (session: ClientSession) => Promise<R>): Promise<R>;
  /** Another session has replaced this one, which is closed when no call on it is in flight. */
  retire(): Promise<void>;
  close(): Promise<void>;
}

export interface ClientSessionOptions {
  readonly name: string;
  readonly sessionId: string | undefined;
  readonly plan: Plan;
  readonly allowed: ReadonlySet<string> | undefined;
  readonly connectedAtMs: number;
  /** Called when the server has announced a change of its tools, also before the session is open. */
  onToolsChanged(): void;
}

/** Throws the errors of client.ts. */
export async function openClientSession(options: ClientSessionOptions, signal: AbortSignal): Promise<ClientSession> {
  const { name, sessionId, plan, allowed, connectedAtMs } = options;
  const client = await plan.open(signal, options.onToolsChanged);
  const { server, protocolVersion } = client;
  const fixed = { name, sessionId, transport: plan.transport, server, protocolVersion, connectedAtMs };
  let connection = { ...fixed, ...(await firstOffer(client, allowed, signal)) };
  let calls = 0;
  let isReplaced = false;

  const list = async (listSignal: AbortSignal): Promise<void> => {
    connection = { ...fixed, ...(await client.listTools(allowed, listSignal)) };
  };

  const has = (tool: string): boolean => connection.tools.some((one) => one.name === tool);

  const session: ClientSession = {
    get connection() {
      return connection;
    },
    ended: client.ended,
    list,

    async callTool({ tool, arguments: args, timeoutMs, signal: callSignal }) {
      // The server may have added the tool since the last list.
      if (!has(tool)) await list(callSignal);
      if (!has(tool)) throw missing(connection, tool);
      return client.callTool(tool, args, { signal: callSignal, timeoutMs });
    },

    async using(work) {
      calls++;
      try {
        return await work(session);
      } finally {
        calls--;
        if (isReplaced && calls === 0) void client.close();
      }
    },

    async retire() {
      isReplaced = true;
      if (calls === 0) await client.close();
    },

    close: client.close,
  };
  return session;
}

async function firstOffer(
  client: McpClient,
  allowed: ReadonlySet<string> | undefined,
  signal: AbortSignal,
): Promise<Offer> {
  try {
    return await client.listTools(allowed, signal);
  } catch (error) {
    await client.close();
    throw error;
  }
}

function missing({ name, omitted }: McpConnection, tool: string): RpcError {
  const left = omitted.find((one) => one.tool === tool);
  const why = left === undefined ? `no such tool on "${name}"` : `the tool of "${name}" cannot be used: ${left.reason}`;
  return new RpcError('not_found', { message: `Not found: ${why}` });
}
