// One connected MCP server, of either protocol era: the official SDK sends `server/discover` first (2026-07-28,
// stateless) and falls back to `initialize` (up to 2025-11-25). Owns the handshake and the requests to the server.
import { Client, isSpecType, type Transport } from '@modelcontextprotocol/client';
import { z } from 'zod';
import { orAbort } from '../async.ts';
import { RpcError } from '../errors.ts';
import { isUnsent } from '../net/fetch-failure.ts';
import { VERSION } from '../version.ts';
import { checkDepth, type FailureFacts, toCallError, toRequestError } from './failures.ts';
import { listenForChanges } from './listen.ts';
import { type McpTool, type Offer, selectTools } from './offer.ts';
import { type McpResult, toExactResult } from './result.ts';

export interface McpClient {
  readonly server: { readonly name: string; readonly version: string };
  readonly protocolVersion: string;
  /**
   * Lists the tools again and keeps those on the allow-list. Throws SessionGone where a new connection may serve it.
   */
  listTools(allowed: ReadonlySet<string> | undefined, signal: AbortSignal): Promise<Offer>;
  /**
   * Throws RpcError `not_found` for a tool that was not listed, and SessionGone as `listTools`. A tool's own failure is
   * a result with `isError`.
   */
  callTool(
    tool: string,
    args: Readonly<Record<string, unknown>>,
    options: { readonly signal: AbortSignal; readonly timeoutMs: number },
  ): Promise<McpResult>;
  /** Resolves when either side has closed the connection; with the exit code of a process that ended by itself. */
  readonly ended: Promise<{ readonly exitCode: number | undefined }>;
  close(): Promise<void>;
}

export const CONNECT_MS = 30_000;
export const PROBE_MS = 5_000;
const LIST_MS = 30_000;
const PAGES_MAX = 16;
const ToolsPage = z.looseObject({ tools: z.array(z.unknown()), nextCursor: z.string().optional() });

export interface Attempt {
  /** `legacy`: without `server/discover`. */
  readonly mode: 'auto' | 'legacy';
  /** Deadline of `server/discover`: a server of the older era may leave it unanswered. */
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
  const over = new AbortController();
  client.onclose = () => {
    over.abort();
    end({ exitCode: facts().exitCode });
  };
  client.onerror = () => {};
  signal.throwIfAborted();
  await orAbort(client.connect(transport, { timeout: CONNECT_MS }), signal);
  void listenForChanges(client, options.onToolsChanged, over.signal);
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
      // Without the output schema: a result that matches the server's own schema proves nothing, and the schema's
      // patterns would run on the gateway's event loop (ReDoS).
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
 * Every item that a server lists, valid or not: the SDK's typed request would reject the whole list because of one tool
 * that the protocol does not allow.
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

/** The reason of the abort as an RpcError: `cancelled` where it is none. */
function toCancelled({ reason }: AbortSignal): RpcError {
  return reason instanceof RpcError ? reason : new RpcError('cancelled', { cause: reason });
}
