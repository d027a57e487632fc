// Connects to an MCP server over the streams of a process. Starts the process a second time if it seems to support only
// the older era of the protocol, or to start slowly.
import { UnsupportedProtocolVersionError } from '@modelcontextprotocol/client';
import { deadline } from '../../async.ts';
import { type FailureFacts, toMcpError } from '../failures.ts';
import type { ServerProcess } from '../stdio-servers.ts';
import { type Attempt, CONNECT_MS, connect, type McpClient, PROBE_MS, throwIfAborted } from './client.ts';
import type { TimeShare } from './transports/paced-lines.ts';
import { createStdioTransport } from './transports/stdio.ts';

export interface StdioOptions {
  readonly name: string;
  /** `signal` aborts the start. It does not end a process that was returned. */
  start(signal: AbortSignal): Promise<ServerProcess>;
  readonly share: TimeShare;
  /** Whether the end of stderr is included in errors to the caller. */
  readonly showStderr: boolean;
  readonly signal: AbortSignal;
  /** Called when the server announces that its tools have changed. */
  onToolsChanged(): void;
}

/** Exit codes of shells: the program is not executable or was not found. An attempt in the other era cannot help. */
const NOT_RUN: ReadonlySet<number> = new Set([125, 126, 127]);

/**
 * Throws RpcError `upstream_error` (with exit code and the end of stderr), `upstream_timeout`, and the errors of
 * `start`.
 */
export async function connectStdio(options: StdioOptions): Promise<McpClient> {
  const signal = deadline(CONNECT_MS, options.signal);
  let attempt: Attempt = { mode: 'auto', probeMs: PROBE_MS };
  for (;;) {
    const transport = createStdioTransport(await startWithin(signal, options), options.share);
    const facts = (): FailureFacts => ({
      name: options.name,
      failure: transport.failure(),
      exitCode: transport.exitCode(),
      stderr: options.showStderr ? transport.stderrTail() : undefined,
    });
    try {
      return await connect(transport, { facts, ...attempt, signal, onToolsChanged: options.onToolsChanged });
    } catch (error) {
      await transport.close();
      throwIfAborted(options.signal, signal, options.name);
      const next = nextAttempt(attempt, error, transport.exitCode());
      if (next === undefined) throw toMcpError(error, facts());
      attempt = next;
    }
  }
}

async function startWithin(within: AbortSignal, { start, signal, name }: StdioOptions): Promise<ServerProcess> {
  try {
    return await start(within);
  } catch (error) {
    throwIfAborted(signal, within, name);
    throw error;
  }
}

/** Returns how to try again; undefined: a second attempt cannot help. */
function nextAttempt({ mode, probeMs }: Attempt, error: unknown, exitCode: number | undefined): Attempt | undefined {
  if (mode === 'legacy' || probeMs !== PROBE_MS) return undefined;
  // The server supports only the newer era and started slowly, so its missing answer was taken as a sign of the older
  // era.
  if (error instanceof UnsupportedProtocolVersionError) return { mode, probeMs: CONNECT_MS };
  // Some servers of the older era exit at any request before `initialize`.
  return exitCode !== undefined && !NOT_RUN.has(exitCode) ? { mode: 'legacy', probeMs } : undefined;
}
