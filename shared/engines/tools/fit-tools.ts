// Converts the tools of a turn for the model's provider: rewrites schemas to its rules. A tool that cannot be converted
// is omitted and reported, so that it does not fail the prompt.
import { providerOf } from '../../config/values/model-id.ts';
import type { EngineTool, Toolset } from '../engine.ts';
import { type CleanSchema, cleanSchema, restoreNames } from './tool-schema.ts';
import { UnusableSchema } from './tool-schema-form.ts';
import type { Dialect } from './tool-schema-values.ts';

/** Limit of OpenAI and Gemini. */
const TOOLS_MAX = 128;
/** Most characters of names, descriptions and schemas of all tools, and of one tool. */
const CHARS_MAX = 128 << 10;
const TOOL_CHARS_MAX = 64 << 10;

/** Beyond the limits, the first tools are kept. */
export function fitToolset(toolset: Toolset | undefined, model: string): Toolset | undefined {
  if (toolset === undefined) return undefined;
  const dialect = toDialect(model);
  const tools: EngineTool[] = [];
  const omitted = [...(toolset.omitted ?? [])];
  let chars = 0;
  for (const tool of toolset.tools) {
    const omit = (reason: string): void => void omitted.push({ server: tool.server, tool: tool.tool, reason });
    const cleaned = clean(tool.inputSchema, dialect);
    if (typeof cleaned === 'string') {
      omit(cleaned);
      continue;
    }
    const { schema, names } = cleaned;
    const size = tool.name.length + (tool.description?.length ?? 0) + JSON.stringify(schema).length;
    if (size > TOOL_CHARS_MAX) omit('its description and schema are larger than 64 KiB');
    else if (tools.length >= TOOLS_MAX) omit(`a prompt may have at most ${TOOLS_MAX} tools`);
    else if (chars + size > CHARS_MAX) omit('the schemas of all tools of a prompt may have at most 128 KiB');
    else {
      chars += size;
      const restored = { toArguments: (given: Schema) => toRecord(restoreNames(given, names)) };
      tools.push({ ...tool, inputSchema: schema, ...(names.size > 0 && restored) });
    }
  }
  return { ...toolset, tools, chars, omitted };
}

type Schema = EngineTool['inputSchema'];

/** Cache by schema object: the objects are the same in all turns. */
const known = new WeakMap<Schema, Map<Dialect, CleanSchema | string>>();

function clean(schema: Schema, dialect: Dialect): CleanSchema | string {
  const made = known.get(schema) ?? new Map<Dialect, CleanSchema | string>();
  known.set(schema, made);
  let cleaned = made.get(dialect);
  if (cleaned === undefined) {
    try {
      cleaned = cleanSchema(schema, dialect);
    } catch (error) {
      cleaned = error instanceof UnusableSchema ? error.message : 'its schema cannot be read';
    }
    made.set(dialect, cleaned);
  }
  return cleaned;
}

/**
 * OpenAI's rules also apply to servers with its protocol. They are the stricter ones of the two for which most tools
 * are written.
 */
function toDialect(model: string): Dialect {
  const provider = providerOf(model);
  return provider === 'anthropic' || provider === 'google' || provider === 'codex' ? provider : 'openai';
}

function toRecord(value: unknown): Schema {
  return typeof value === 'object' && value !== null ? { ...value } : {};
}
