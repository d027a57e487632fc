// Connects to an MCP server over HTTP.
import { deadline } from '../../async.ts';
import type { SafeFetch } from '../../net/safe-fetch.ts';
import { type FailureFacts, toMcpError } from '../failures.ts';
import { CONNECT_MS, connect, type McpClient, PROBE_MS, throwIfAborted } from './client.ts';
import { createHttpTransport } from './transports/http.ts';

export interface HttpOptions {
  readonly name: string;
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly safeFetch: SafeFetch;
  readonly signal: AbortSignal;
  onToolsChanged(): void;
}

/** Throws RpcError `forbidden` for an address that must not be reached, otherwise the errors of `connectStdio`. */
export async function connectHttp(options: HttpOptions): Promise<McpClient> {
  const signal = deadline(CONNECT_MS, options.signal);
  const { transport, endSession, failure } = createHttpTransport(options.url, options.headers, options.safeFetch);
  const facts = (): FailureFacts => ({ name: options.name, failure: failure() });
  try {
    const { onToolsChanged } = options;
    return await connect(transport, {
      facts,
      mode: 'auto',
      probeMs: PROBE_MS,
      signal,
      onToolsChanged,
      beforeClose: endSession,
    });
  } catch (error) {
    await transport.close();
    throwIfAborted(options.signal, signal, options.name);
    throw toMcpError(error, facts());
  }
}
