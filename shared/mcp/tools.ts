// The tools of a session's MCP servers as a model sees them: names a provider accepts, descriptions and answers of
// bounded size. What a tool says is data to the model, never an instruction to us.
import { RpcError } from '../errors.ts';
import type { McpCall, McpConnection } from './link.ts';
import type { McpResult } from './result.ts';

/** As engines/engine.ts wants it. */
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
  readonly omitted: readonly { readonly server: string; readonly tool: string; readonly reason: string }[];
  /** Rejects only when `signal` is aborted; everything else is told to the model. */
  call(
    tool: { readonly server: string; readonly tool: string },
    args: Readonly<Record<string, unknown>>,
    signal: AbortSignal,
  ): Promise<{ readonly content: string; readonly isError: boolean }>;
}

const DESCRIPTION_CHARS_MAX = 1024;
/** Both large providers: `^[a-zA-Z0-9_-]{1,64}$`. */
const NAME_CHARS_MAX = 64;
const ANSWER_CHARS_MAX = 64 << 10;
const CALL_TIMEOUT_MS = 60_000;

/** Undefined when no server is connected. What of it a model can take is the engines' business. */
export function toToolset(
  connections: readonly McpConnection[],
  call: (server: string, request: McpCall) => Promise<McpResult>,
): McpToolset | undefined {
  const names = new Set<string>();
  const tools: McpToolset['tools'][number][] = [];
  let chars = 0;
  for (const { name: server, tools: offered } of connections) {
    for (const { name: tool, description, inputSchema } of offered) {
      const name = toName(server, tool, names);
      const told = description?.slice(0, DESCRIPTION_CHARS_MAX).toWellFormed();
      chars += name.length + (told?.length ?? 0);
      names.add(name);
      tools.push({ name, server, tool, ...(told !== undefined && { description: told }), inputSchema });
    }
  }
  if (connections.length === 0) return undefined;
  return {
    tools,
    chars,
    omitted: connections.flatMap(({ name: server, omitted }) => omitted.map((one) => ({ server, ...one }))),
    async call({ server, tool }, args, signal) {
      try {
        const result = await call(server, { tool, arguments: args, timeoutMs: CALL_TIMEOUT_MS, signal });
        return { content: toText(result), isError: result.isError === true };
      } catch (error) {
        signal.throwIfAborted();
        const message = error instanceof RpcError ? error.message : 'the tool failed';
        return { content: message, isError: true };
      }
    },
  };
}

/** `server__tool`, in the characters providers accept, cut to their length, with a number where that is taken. */
function toName(server: string, tool: string, taken: ReadonlySet<string>): string {
  // Gemini wants a letter or an underscore first.
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
  // Servers repeat structured content as text; one that does not would otherwise have said nothing.
  if (parts.length === 0 && structuredContent !== undefined)
    parts.push(typeof structuredContent === 'string' ? structuredContent : JSON.stringify(structuredContent));
  const text = parts.join('\n').toWellFormed();
  return text.length > ANSWER_CHARS_MAX ? `${text.slice(0, ANSWER_CHARS_MAX)}\n[cut: the answer was longer]` : text;
}
