// Converts the tools of a session's MCP servers for the model: names that providers accept, descriptions and results of
// bounded size. The gateway never interprets the result of a tool.
import { RpcError } from '../../errors.ts';
import type { OmittedTool } from '../../turn-events.ts';
import type { McpCall, McpConnection } from './mcp-connection.ts';
import type { McpResult } from './result.ts';

/** The toolset in the structure that engines/engine.ts defines. */
export interface McpToolset {
  readonly tools: readonly {
    readonly name: string;
    readonly server: string;
    readonly tool: string;
    readonly description?: string;
    readonly inputSchema: Readonly<Record<string, unknown>>;
  }[];
  /** Characters of names, descriptions and schemas together. */
  readonly chars: number;
  readonly omitted: readonly OmittedTool[];
  /** Servers that were started again since the last prompt, so they have lost what they had in memory. */
  readonly restarted: readonly string[];
  /** Rejects only when `signal` is aborted; every other failure is returned to the model as an error result. */
  call(
    tool: { readonly server: string; readonly tool: string },
    args: Readonly<Record<string, unknown>>,
    signal: AbortSignal,
  ): Promise<{ readonly content: string; readonly isError: boolean }>;
}

const DESCRIPTION_CHARS_MAX = 1024;
/** The pattern of OpenAI and Anthropic is `^[a-zA-Z0-9_-]{1,64}$`. */
const NAME_CHARS_MAX = 64;
const ANSWER_CHARS_MAX = 64 << 10;
const CALL_TIMEOUT_MS = 60_000;

export interface SessionServers extends Pick<McpToolset, 'restarted'> {
  readonly connections: readonly McpConnection[];
  /** Tools of servers that have no connection. */
  readonly omitted: readonly OmittedTool[];
}

/** The engines select the tools that a model supports. */
export function toToolset(
  { connections, omitted, restarted }: SessionServers,
  call: (server: string, request: McpCall) => Promise<McpResult>,
): McpToolset {
  const names = new Set<string>();
  const tools: McpToolset['tools'][number][] = [];
  let chars = 0;
  for (const { name: server, tools: offered } of connections) {
    for (const { name: tool, description, inputSchema } of offered) {
      const name = toName(server, tool, names);
      const short = description?.slice(0, DESCRIPTION_CHARS_MAX).toWellFormed();
      chars += name.length + (short?.length ?? 0);
      names.add(name);
      tools.push({ name, server, tool, ...(short !== undefined && { description: short }), inputSchema });
    }
  }
  return {
    tools,
    chars,
    omitted: [
      ...connections.flatMap((connection) => connection.omitted.map((one) => ({ server: connection.name, ...one }))),
      ...omitted,
    ],
    restarted,
    async call({ server, tool }, args, signal) {
      try {
        const result = await call(server, { tool, arguments: args, timeoutMs: CALL_TIMEOUT_MS, signal });
        return { content: toText(result), isError: result.isError === true };
      } catch (error) {
        signal.throwIfAborted();
        const message = error instanceof RpcError ? error.message : 'the tool failed';
        return { content: message.toWellFormed(), isError: true };
      }
    },
  };
}

/**
 * Returns `server__tool` with only the characters that providers accept, cut to their maximum length. A number is
 * appended if the name is already used.
 */
function toName(server: string, tool: string, taken: ReadonlySet<string>): string {
  // Gemini requires a letter or an underscore first.
  const clean = `${server}__${tool}`
    .replaceAll(/[^\w-]/g, '_')
    .replace(/^(?=[^A-Za-z_])/, '_')
    .slice(0, NAME_CHARS_MAX);
  for (let number = 2, name = clean; ; number++) {
    if (!taken.has(name)) return name;
    name = `${clean.slice(0, NAME_CHARS_MAX - 5)}_${number}`;
  }
}

function toText({ content, structuredContent }: McpResult): string {
  const parts = content.map((block) => {
    if (block.type === 'text') return block.text;
    if (block.type === 'resource')
      return 'text' in block.resource ? block.resource.text : `[resource ${block.resource.uri}]`;
    if (block.type === 'resource_link') return `[resource ${block.uri}]`;
    return `[${block.type}, ${block.mimeType}]`;
  });
  // Servers usually repeat structured content as text. If they do not, it is used as text here.
  if (parts.length === 0 && structuredContent !== undefined)
    parts.push(typeof structuredContent === 'string' ? structuredContent : JSON.stringify(structuredContent));
  const text = parts.join('\n');
  const shown = text.slice(0, ANSWER_CHARS_MAX).toWellFormed();
  return text.length > ANSWER_CHARS_MAX ? `${shown}\n[truncated: the result was longer]` : shown;
}
