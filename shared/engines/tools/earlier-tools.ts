// Declares the tools that the model used in earlier turns of a conversation and that the turn no longer offers.
import type { EngineTool, Toolset, TurnInput } from '../engine.ts';

/** Limit of OpenAI and Gemini. */
const TOOLS_MAX = 128;
const DESCRIPTION = 'This tool is no longer available.';

/** Refuses every call, because no tool of it is offered. */
export const NO_TOOLS: Toolset = {
  tools: [],
  chars: 0,
  call: async () => ({ content: DESCRIPTION, isError: true }),
};

/**
 * The tools that a request declares. Anthropic refuses the tool calls of earlier turns if the request declares no
 * tools: then their names are declared.
 */
export function toDeclaredTools({ messages, tools }: Pick<TurnInput, 'messages' | 'tools'>): readonly EngineTool[] {
  if (tools !== undefined && tools.tools.length > 0) return tools.tools;
  const names = new Set<string>();
  for (const { parts = [] } of messages) {
    for (const part of parts) if (part.type === 'tool_call') names.add(part.name);
  }
  return [...names].slice(-TOOLS_MAX).map((name) => {
    return { name, server: '', tool: name, description: DESCRIPTION, inputSchema: { type: 'object', properties: {} } };
  });
}
