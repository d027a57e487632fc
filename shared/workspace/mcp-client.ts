// One connected MCP server, of either protocol era: the official SDK asks `server/discover` first (2026-07-28, stateless) and falls back to
// `initialize` (up to 2025-11-25). Owns the handshake, its deadline and the bounds of what a server may say.
import { type CallToolResult, Client, type Tool, type Transport } from '@modelcontextprotocol/client';
import { RpcError } from '../errors.ts';
import type { SafeFetch } from '../net/safe-fetch.ts';
import { checkDepth, type FailureFacts, toMcpError } from './mcp-failures.ts';
import { createHttpTransport } from './mcp-http.ts';
import { createStdioTransport } from './mcp-stdio.ts';
import type { SandboxChild } from './sandbox.ts';

/** A tool as its server describes it; nothing of it has been judged but its size. */
export interface McpTool {
  readonly name: string;
  readonly title?: string | undefined;
  readonly description?: string | undefined;
  readonly inputSchema: Readonly<Record<string, unknown>>;
  readonly outputSchema?: Readonly<Record<string, unknown>> | undefined;
  readonly annotations?: Readonly<Record<string, unknown>> | undefined;
}

export interface McpClient {
  readonly server: { readonly name: string; readonly version: string };
  readonly protocolVersion: string;
  /** Asks anew. Throws RpcError `upstream_error` beyond TOOLS_MAX or TOOLS_CHARS_MAX. */
  listTools(signal: AbortSignal): Promise<readonly McpTool[]>;
  /** Throws RpcError `not_found` for a tool that was not listed. A tool's own failure is a result with `isError`. */
  callTool(
    tool: string,
    args: Readonly<Record<string, unknown>>,
    options: { readonly signal: AbortSignal; readonly timeoutMs: number },
  ): Promise<CallToolResult>;
  /** Resolves when the connection is over, whoever ended it; with the exit code of a process that ended by itself. */
  readonly ended: Promise<{ readonly exitCode: number | undefined }>;
  close(): Promise<void>;
}

export interface StdioOptions {
  readonly name: string;
  spawn(): Promise<SandboxChild>;
  /** Whether the caller may see what the server writes to stderr. */
  readonly showStderr: boolean;
  readonly signal: AbortSignal;
}

export interface HttpOptions {
  readonly name: string;
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly safeFetch: SafeFetch;
  readonly signal: AbortSignal;
}

export const TOOLS_MAX = 256;
export const TOOLS_CHARS_MAX = 1 << 20;
const CONNECT_MS = 30_000;
/** A server of the older era may leave the question unanswered. */
const PROBE_MS = 5_000;
const LIST_MS = 30_000;
/** As shells say it: not executable, not found. Asking in the other era cannot help. */
const NOT_RUN: ReadonlySet<number> = new Set([125, 126, 127]);
const PAGES_MAX = 16;

/** Throws RpcError `upstream_error` (with exit code and the end of stderr), `upstream_timeout`, and what `spawn` throws. */
export async function connectStdio(options: StdioOptions): Promise<McpClient> {
  const deadline = AbortSignal.timeout(CONNECT_MS);
  const signal = AbortSignal.any([options.signal, deadline]);
  for (const mode of ['auto', 'legacy'] as const) {
    const transport = createStdioTransport(await options.spawn());
    const facts = (): FailureFacts => ({
      name: options.name,
      exitCode: transport.exitCode(),
      stderr: options.showStderr ? transport.stderrTail() : undefined,
    });
    try {
      return await connect(transport, { facts, mode, signal });
    } catch (error) {
      await transport.close();
      throwIfAborted(options.signal, deadline, options.name);
      const exitCode = transport.exitCode();
      // Some servers of the older era end on any request before `initialize`.
      if (mode === 'auto' && exitCode !== undefined && !NOT_RUN.has(exitCode)) continue;
      throw toMcpError(error, facts());
    }
  }
  throw new RpcError('internal');
}

/** Throws RpcError `forbidden` for a place that may not be reached, else as `connectStdio`. */
export async function connectHttp(options: HttpOptions): Promise<McpClient> {
  const deadline = AbortSignal.timeout(CONNECT_MS);
  const { transport, endSession, failure } = createHttpTransport(options.url, options.headers, options.safeFetch);
  const facts = (): FailureFacts => ({ name: options.name, failure: failure() });
  try {
    const signal = AbortSignal.any([options.signal, deadline]);
    return await connect(transport, { facts, mode: 'auto', signal, beforeClose: endSession });
  } catch (error) {
    await transport.close();
    throwIfAborted(options.signal, deadline, options.name);
    throw toMcpError(error, facts());
  }
}

interface ConnectOptions {
  readonly facts: () => FailureFacts;
  readonly mode: 'auto' | 'legacy';
  readonly signal: AbortSignal;
  beforeClose?(): Promise<void>;
}

async function connect(transport: Transport, options: ConnectOptions): Promise<McpClient> {
  const { facts, mode, signal } = options;
  const client = new Client(
    { name: 'codex-gateway', version: '1' },
    {
      versionNegotiation: { mode, probe: { timeoutMs: PROBE_MS } },
      listMaxPages: PAGES_MAX,
    },
  );
  const definitions = new Map<string, Tool>();
  const { promise: ended, resolve: end } = Promise.withResolvers<{ readonly exitCode: number | undefined }>();
  client.onclose = () => end({ exitCode: facts().exitCode });
  client.onerror = () => {};
  const { promise: aborted, reject } = Promise.withResolvers<never>();
  aborted.catch(() => {});
  const onAbort = (): void => reject(signal.reason);
  signal.throwIfAborted();
  signal.addEventListener('abort', onAbort, { once: true });
  try {
    await Promise.race([client.connect(transport, { timeout: CONNECT_MS }), aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
  const { name = 'unknown', version = 'unknown' } = client.getServerVersion() ?? {};
  return {
    server: { name: name.slice(0, 256), version: version.slice(0, 256) },
    protocolVersion: client.getNegotiatedProtocolVersion() ?? 'unknown',
    ended,

    async listTools(listSignal) {
      try {
        const { tools } = await client.listTools(undefined, {
          signal: listSignal,
          timeout: LIST_MS,
          cacheMode: 'refresh',
        });
        checkDepth(tools, facts().name);
        if (tools.length > TOOLS_MAX || JSON.stringify(tools).length > TOOLS_CHARS_MAX) {
          throw new RpcError('upstream_error', {
            message: `MCP server "${facts().name}" offers more than ${TOOLS_MAX} tools, or more than 1 MiB of descriptions`,
            retryable: false,
          });
        }
        definitions.clear();
        // Without the output schema: a server's own schema judging its own answer proves nothing, and its patterns would run on our
        // event loop (ReDoS).
        for (const { outputSchema: _, ...tool } of tools) definitions.set(tool.name, tool);
        return tools.map(({ name, title, description, inputSchema, outputSchema, annotations }) => ({
          name,
          title,
          description,
          inputSchema,
          outputSchema,
          annotations,
        }));
      } catch (error) {
        throw toMcpError(error, facts());
      }
    },

    async callTool(tool, args, { signal: callSignal, timeoutMs }) {
      const toolDefinition = definitions.get(tool);
      if (toolDefinition === undefined) throw new RpcError('not_found', { message: `Not found: no tool "${tool}"` });
      try {
        const result = await client.callTool(
          { name: tool, arguments: { ...args } },
          { signal: callSignal, timeout: timeoutMs, maxTotalTimeout: timeoutMs, toolDefinition },
        );
        checkDepth(result, facts().name);
        return result;
      } catch (error) {
        if (callSignal.aborted) throw toCancelled(callSignal);
        throw toMcpError(error, facts());
      }
    },

    async close() {
      await options.beforeClose?.();
      await client.close();
    },
  };
}

function throwIfAborted(signal: AbortSignal, deadline: AbortSignal, name: string): void {
  if (signal.aborted) throw toCancelled(signal);
  if (deadline.aborted) {
    throw new RpcError('upstream_timeout', {
      message: `MCP server "${name}" was not ready within ${CONNECT_MS / 1_000} s`,
    });
  }
}

function toCancelled({ reason }: AbortSignal): RpcError {
  return reason instanceof RpcError ? reason : new RpcError('cancelled', { cause: reason });
}
