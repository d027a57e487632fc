// The client of one MCP server: the handshake and the requests. It supports both protocol eras: the official SDK sends
// `server/discover` first (since 2026-07-28, stateless) and falls back to `initialize` (until 2025-11-25).
import { Client, isSpecType, type Transport } from '@modelcontextprotocol/client';
import { z } from 'zod';
import { orAbort } from '../../async.ts';
import { RpcError } from '../../errors.ts';
import { isUnsent } from '../../net/fetch-failure.ts';
import { VERSION } from '../../version.ts';
import { checkDepth, type FailureFacts, toCallError, toRequestError } from '../failures.ts';
import { type McpTool, type Offer, selectTools } from '../tools/offer.ts';
import { type McpResult, toExactResult } from '../tools/result.ts';
import { listenForChanges } from './listen-for-changes.ts';

export interface McpClient {
  readonly server: { readonly name: string; readonly version: string };
  readonly protocolVersion: string;
  /**
   * Lists the tools of the server and remembers those on the allow-list. Throws SessionGone if a new connection may
   * serve the request.
   */
  listTools(allowed: ReadonlySet<string> | undefined, signal: AbortSignal): Promise<Offer>;
  /**
   * Throws RpcError `not_found` for a tool that was not listed, and SessionGone like `listTools`. The failure of a tool
   * itself is a result with `isError`.
   */
  callTool(
    tool: string,
    args: Readonly<Record<string, unknown>>,
    options: { readonly signal: AbortSignal; readonly timeoutMs: number },
  ): Promise<McpResult>;
  /** Resolves when either side has closed the connection. `exitCode` is set if the process ended by itself. */
  readonly ended: Promise<{ readonly exitCode: number | undefined }>;
  close(): Promise<void>;
}

export const CONNECT_MS = 30_000;
export const PROBE_MS = 5_000;
const LIST_MS = 30_000;
const PAGES_MAX = 16;
const ToolsPage = z.looseObject({ tools: z.array(z.unknown()), nextCursor: z.string().optional() });

export interface Attempt {
  /** `legacy`: `server/discover` is not sent. */
  readonly mode: 'auto' | 'legacy';
  /** Deadline of `server/discover`. A server of the older era may not answer it. */
  readonly probeMs: number;
}

export interface ConnectOptions extends Attempt {
  readonly facts: () => FailureFacts;
  readonly signal: AbortSignal;
  onToolsChanged(): void;
  beforeClose?(): Promise<void>;
}

export async function connect(transport: Transport, options: ConnectOptions): Promise<McpClient> {
  const { facts, mode, probeMs, signal } = options;
  const client = new Client(
    { name: 'codex-gateway', version: VERSION },
    { versionNegotiation: { mode, probe: { timeoutMs: probeMs } } },
  );
  client.setNotificationHandler('notifications/tools/list_changed', () => options.onToolsChanged());
  const definitions = new Map<string, McpTool>();
  const { promise: ended, resolve: end } = Promise.withResolvers<{ readonly exitCode: number | undefined }>();
  const closed = new AbortController();
  client.onclose = () => {
    closed.abort();
    end({ exitCode: facts().exitCode });
  };
  client.onerror = () => {};
  signal.throwIfAborted();
  await orAbort(client.connect(transport, { timeout: CONNECT_MS }), signal);
  void listenForChanges(client, options.onToolsChanged, closed.signal);
  const { name = 'unknown', version = 'unknown' } = client.getServerVersion() ?? {};
  return {
    server: { name: name.slice(0, 256), version: version.slice(0, 256) },
    protocolVersion: client.getNegotiatedProtocolVersion() ?? 'unknown',
    ended,

    async listTools(allowed, listSignal) {
      try {
        const offer = selectTools(await fetchTools(client, listSignal), allowed);
        definitions.clear();
        for (const tool of offer.tools) definitions.set(tool.name, tool);
        return offer;
      } catch (error) {
        if (listSignal.aborted) throw toCancelled(listSignal);
        throw toRequestError(error, facts());
      }
    },

    async callTool(tool, args, { signal: callSignal, timeoutMs }) {
      const definition = definitions.get(tool);
      if (definition === undefined) throw new RpcError('not_found', { message: `Not found: no tool "${tool}"` });
      // The definition is passed to the SDK without the output schema, so that it does not validate the result. The
      // schema comes from the same server as the result, so validation would prove nothing, and its patterns could
      // block the gateway's event loop (ReDoS).
      const { name: toolName, inputSchema } = definition;
      const stub: unknown = { name: toolName, inputSchema: { ...inputSchema, type: 'object' } };
      const toolDefinition = isSpecType.Tool(stub) ? { toolDefinition: stub } : {};
      try {
        const result = await client.callTool(
          { name: tool, arguments: { ...args } },
          { signal: callSignal, timeout: timeoutMs, maxTotalTimeout: timeoutMs, ...toolDefinition },
        );
        checkDepth(result, facts().name);
        return toExactResult(result);
      } catch (error) {
        if (callSignal.aborted) throw toCancelled(callSignal);
        const failure = toRequestError(error, facts());
        const { readOnlyHint, idempotentHint } = definition.annotations ?? {};
        return Promise.reject(
          toCallError(failure, readOnlyHint === true || idempotentHint === true, isUnsent(failure)),
        );
      }
    },

    async close() {
      await options.beforeClose?.();
      await client.close();
    },
  };
}

/**
 * Returns every item that the server lists, valid or not. The SDK's typed request would reject the whole list because
 * of one invalid tool.
 */
async function fetchTools(client: Client, signal: AbortSignal): Promise<unknown[]> {
  if (client.getServerCapabilities()?.tools === undefined) return [];
  let offered: unknown[] = [];
  let cursor: string | undefined;
  for (let page = 0; page < PAGES_MAX; page++) {
    const params = cursor === undefined ? {} : { params: { cursor } };
    const request = { method: 'tools/list', ...params };
    const { tools, nextCursor } = await client.request(request, ToolsPage, { signal, timeout: LIST_MS });
    offered = offered.concat(tools);
    if (nextCursor === undefined || nextCursor === cursor) break;
    cursor = nextCursor;
  }
  return offered;
}

/** Throws RpcError `cancelled` when the caller has left, `upstream_timeout` when the time to connect is over. */
export function throwIfAborted(signal: AbortSignal, within: AbortSignal, name: string): void {
  if (signal.aborted) throw toCancelled(signal);
  if (within.aborted) {
    throw new RpcError('upstream_timeout', {
      message: `MCP server "${name}" was not ready within ${CONNECT_MS / 1_000} s`,
    });
  }
}

/** Returns the reason of the abort if it is an RpcError, else `cancelled`. */
function toCancelled({ reason }: AbortSignal): RpcError {
  return reason instanceof RpcError ? reason : new RpcError('cancelled', { cause: reason });
}
