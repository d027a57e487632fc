// Validates tools as the providers do: an invalid tool fails the whole request.
const NAME = /^[a-zA-Z0-9_-]{1,64}$/;
const PROPERTY = /^[a-zA-Z0-9_.-]{1,64}$/;
const TOOLS_MAX = 128;

/** Why the request is refused with 400; undefined when its tools are taken. */
export function refuseTools(body: unknown): string | undefined {
  const tools = toList(member(body, 'tools')).flatMap((tool) => {
    const declared = member(tool, 'functionDeclarations');
    return declared === undefined ? [member(tool, 'function') ?? tool] : toList(declared);
  });
  if (tools.length > TOOLS_MAX) return `Invalid 'tools': array too long. Expected at most ${TOOLS_MAX}`;
  const names = tools.map((tool) => String(member(tool, 'name')));
  if (new Set(names).size < names.length) return 'tools: Tool names must be unique.';
  for (const [index, tool] of tools.entries()) {
    const schema = member(tool, 'input_schema') ?? member(tool, 'parameters') ?? member(tool, 'parametersJsonSchema');
    const problem = NAME.test(names[index] ?? '') ? findProblem(schema) : 'name does not match the pattern';
    if (problem !== undefined) return `tools.${index}.custom.input_schema: ${problem}`;
  }
  return undefined;
}

function findProblem(schema: unknown): string | undefined {
  if (member(schema, 'type') !== 'object') return 'schema must have type object';
  for (const key of ['oneOf', 'allOf', 'anyOf', 'enum', 'const', 'not']) {
    if (member(schema, key) !== undefined)
      return 'input_schema does not support oneOf, allOf, or anyOf at the top level';
  }
  const properties = Object.entries(Object(member(schema, 'properties')));
  if (!properties.every(([name]) => PROPERTY.test(name))) return 'Property keys should match pattern';
  const bare = properties.some(([, one]) => member(one, 'type') === 'array' && member(one, 'items') === undefined);
  return bare ? 'array schema missing items' : undefined;
}

function member(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined;
}

function toList(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}
