// Selects the tools of a server that the caller allows, within bounds of number and size. An invalid tool is omitted
// and reported, and does not affect the others.
import { isObject } from '../../json/json-object.ts';
import { hasMarks, isMarked } from '../../rpc/json/exact-json.ts';
import { isDeep } from '../failures.ts';

/** A tool as its server describes it. Only its structure and size have been checked. */
export interface McpTool {
  readonly name: string;
  readonly title?: string | undefined;
  readonly description?: string | undefined;
  readonly inputSchema: Readonly<Record<string, unknown>>;
  readonly outputSchema?: Readonly<Record<string, unknown>> | undefined;
  readonly annotations?: Readonly<Record<string, unknown>> | undefined;
}

export interface OmittedTool {
  readonly tool: string;
  readonly reason: string;
}

export interface Offer {
  readonly tools: readonly McpTool[];
  readonly omitted: readonly OmittedTool[];
}

export const TOOLS_MAX = 256;
const TOOLS_CHARS_MAX = 1 << 20;
const NAME_CHARS_MAX = 256;
const OMITTED_MAX = 1_000;
const OMITTED_NAME_CHARS_MAX = 128;

/** `allowed` is undefined if all tools are allowed. The bounds apply to the allowed tools. */
export function selectTools(offered: readonly unknown[], allowed: ReadonlySet<string> | undefined): Offer {
  const tools = new Map<string, McpTool>();
  const omitted: OmittedTool[] = [];
  let chars = 0;
  const omit = (name: string, reason: string): void => {
    if (omitted.length < OMITTED_MAX)
      omitted.push({ tool: name.slice(0, OMITTED_NAME_CHARS_MAX).toWellFormed(), reason });
  };
  for (const item of offered) {
    const name = isObject(item) && typeof item.name === 'string' ? item.name : '';
    if (allowed !== undefined && !allowed.has(name)) continue;
    const tool = isObject(item) ? toTool(name, item) : 'it is not an object';
    if (typeof tool === 'string') {
      omit(name, tool);
      continue;
    }
    const size = JSON.stringify(tool).length;
    if (tools.has(name)) omit(name, 'another tool of the server has this name');
    else if (tools.size >= TOOLS_MAX)
      omit(name, `the server offers more than ${TOOLS_MAX} tools: name those needed in allowed_tools`);
    else if (chars + size > TOOLS_CHARS_MAX) omit(name, 'the tools of the server are described in more than 1 MiB');
    else {
      chars += size;
      tools.set(name, tool);
    }
  }
  return { tools: [...tools.values()], omitted };
}

/** The tool, or the reason why it cannot be used. */
function toTool(name: string, item: Readonly<Record<string, unknown>>): McpTool | string {
  if (name === '') return 'it has no name';
  if (name.length > NAME_CHARS_MAX) return `its name is longer than ${NAME_CHARS_MAX} characters`;
  if (isDeep(item)) return 'its description is nested deeper than 64 levels';
  const { title, description, inputSchema = { type: 'object' }, outputSchema, annotations } = item;
  if (!isObject(inputSchema)) return 'its input schema is not an object';
  const exact = withoutMarks(inputSchema);
  if (exact === undefined) return 'its input schema requires a number that would lose digits';
  const exactOutput = isObject(outputSchema) ? withoutMarks(outputSchema) : undefined;
  return {
    name,
    title: typeof title === 'string' ? title : undefined,
    description: typeof description === 'string' ? description : undefined,
    inputSchema: exact,
    outputSchema: exactOutput,
    annotations: isObject(annotations) && !hasMarks(annotations) ? annotations : undefined,
  };
}

/**
 * Returns the schema without numbers that would lose digits. A limit (a 64-bit `maximum`) or a default is removed,
 * because no caller could send such a number. Undefined if a value must equal such a number (`const`, `enum`).
 */
function withoutMarks(schema: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>> | undefined {
  if (!hasMarks(schema)) return schema;
  let isUsable = true;
  const clean = (value: unknown): unknown => {
    if (Array.isArray(value)) {
      if (value.some(isMarked)) isUsable = false;
      return value.map(clean);
    }
    if (!isObject(value)) return value;
    if (isMarked(value.const)) isUsable = false;
    return Object.fromEntries(
      Object.entries(value).flatMap(([key, member]) => (isMarked(member) ? [] : [[key, clean(member)]])),
    );
  };
  const cleaned = clean(schema);
  return isUsable && isObject(cleaned) ? cleaned : undefined;
}
