// A connection to an MCP server with its tools, as its callers see it, and a call of one of the tools.
import type { McpTool, OmittedTool } from './offer.ts';

export interface McpConnection {
  readonly name: string;
  readonly sessionId: string | undefined;
  readonly transport: 'stdio' | 'http';
  readonly server: { readonly name: string; readonly version: string };
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
