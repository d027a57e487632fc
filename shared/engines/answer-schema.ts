// Decides how the schema of an answer is sent to a provider: strict where its constrained mode supports all of the
// schema, else not strict, as a tool or as an instruction. The gateway checks the answer against the whole schema in
// any case.
import type { OutputSchema } from '../json/output-schema.ts';

const JSON_ONLY = 'Answer only with JSON that matches this JSON Schema, without any other text:';

/** The schema as an instruction to the model. */
export function toSchemaInstruction(schema: OutputSchema): string {
  return `${JSON_ONLY}\n${JSON.stringify(schema)}`;
}

const NOTES = ['title', 'description'];
const BOUNDS = ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum', 'multipleOf', 'minItems', 'maxItems'];
const SHAPE = ['$defs', 'type', 'properties', 'required', 'additionalProperties', 'items', 'anyOf', 'enum', 'const'];

/** What OpenAI accepts in a strict schema (Structured Outputs, "Supported schemas"). */
const STRICT = new Set([...NOTES, ...BOUNDS, ...SHAPE, 'pattern', 'format']);
const STRICT_FORMATS = new Set<unknown>([
  'date-time',
  'time',
  'date',
  'duration',
  'email',
  'hostname',
  'ipv4',
  'ipv6',
  'uuid',
]);

/**
 * Whether OpenAI accepts a sent schema (output-schema.ts) as strict: each object names all of its properties as
 * required and allows no others, each schema has a type, and no other keywords occur.
 */
export function isStrict(schema: unknown): boolean {
  if (typeof schema !== 'object' || schema === null) return false;
  const { $ref, type, properties, required, additionalProperties, items, anyOf, $defs, format }: OutputSchema = {
    ...schema,
  };
  if ($ref !== undefined) return Object.keys(schema).length === 1;
  if (Object.keys(schema).some((keyword) => !STRICT.has(keyword))) return false;
  if (format !== undefined && !STRICT_FORMATS.has(format)) return false;
  if (type === undefined && anyOf === undefined) return false;
  const types = [type].flat();
  if (types.includes('object') || properties !== undefined) {
    const names = Object.keys(Object(properties));
    const isAllRequired = names.every((name) => Array.isArray(required) && required.includes(name));
    if (additionalProperties !== false || !isAllRequired) return false;
  }
  if (types.includes('array') && items === undefined) return false;
  const inner = [
    ...Object.values(Object(properties)),
    ...Object.values(Object($defs)),
    ...(Array.isArray(anyOf) ? anyOf : []),
  ];
  return [...inner, ...(items === undefined ? [] : [items])].every(isStrict);
}

/** What the SDK sends to Anthropic, as such or in descriptions; it leaves out the others without a warning. */
const DESCRIBED = [
  'minLength',
  'maxLength',
  'uniqueItems',
  'minProperties',
  'maxProperties',
  'default',
  'allOf',
  'oneOf',
];
const NATIVE = new Set([...STRICT, ...DESCRIBED, '$ref']);

/** Whether all of a sent schema reaches Anthropic's models in its constrained mode. */
export function isNative(schema: unknown): boolean {
  if (typeof schema !== 'object' || schema === null) return true;
  const { properties, items, anyOf, oneOf, allOf, $defs }: OutputSchema = { ...schema };
  const keywords = Object.keys(schema);
  if (keywords.some((keyword) => !NATIVE.has(keyword))) return false;
  // Only the first of them is sent, and nothing beside a reference.
  if ((anyOf !== undefined && oneOf !== undefined) || ('$ref' in schema && keywords.length > 1)) return false;
  const lists = [anyOf, oneOf, allOf].flatMap((branches) => (Array.isArray(branches) ? branches : []));
  return [...Object.values(Object(properties)), ...Object.values(Object($defs)), ...lists, items].every(isNative);
}
