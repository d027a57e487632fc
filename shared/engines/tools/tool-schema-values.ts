// Cleans the keywords of a JSON Schema whose values contain no schemas, and `type`. A keyword is kept if its value is
// valid and the provider supports it.
import type { Schema } from './tool-schema-form.ts';

/** The provider whose rules apply. `codex`: the rules of its own parser, then OpenAI's. */
export type Dialect = 'anthropic' | 'openai' | 'google' | 'codex';

const TYPES: ReadonlySet<unknown> = new Set(['string', 'number', 'integer', 'boolean', 'null', 'array', 'object']);
const NUMBERS = ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum', 'multipleOf'];
const COUNTS = ['minLength', 'maxLength', 'minItems', 'maxItems', 'minProperties', 'maxProperties'];
/** Keywords that Gemini and Codex do not support. */
export const RARE: ReadonlySet<string> = new Set([
  ...['exclusiveMinimum', 'exclusiveMaximum', 'multipleOf', 'pattern', 'minLength', 'maxLength'],
  ...['minProperties', 'maxProperties', 'uniqueItems', 'default', 'not', 'patternProperties', 'propertyNames'],
]);
const GOOGLE_FORMATS: ReadonlySet<unknown> = new Set(['date', 'time', 'date-time']);

/** Returns the supported keywords whose values contain no schemas. */
export function toScalars(node: Schema, dialect: Dialect): Record<string, unknown> {
  const isPlain = dialect === 'google' || dialect === 'codex';
  const out: Record<string, unknown> = {};
  const keep = (key: string, isValid: (value: unknown) => boolean): void => {
    if (!(isPlain && RARE.has(key)) && key in node && isValid(node[key])) out[key] = node[key];
  };
  for (const key of ['title', 'description']) {
    const value = node[key];
    if (typeof value === 'string') out[key] = value.toWellFormed();
  }
  keep('format', (value) => typeof value === 'string' && (dialect !== 'google' || GOOGLE_FORMATS.has(value)));
  keep('pattern', (value) => typeof value === 'string' && isPattern(value));
  for (const key of NUMBERS)
    keep(key, (value) => Number.isFinite(value) && (key !== 'multipleOf' || Number(value) > 0));
  for (const key of COUNTS) keep(key, (value) => Number.isSafeInteger(value) && Number(value) >= 0);
  keep('uniqueItems', (value) => typeof value === 'boolean');
  keep('default', (value) => value !== undefined);
  const values: unknown = 'const' in node ? [node.const] : node.enum;
  if (!Array.isArray(values) || values.length === 0) return out;
  const isText = values.every((value) => typeof value === 'string' || typeof value === 'number');
  if (!isPlain && 'const' in node) out.const = node.const;
  else if (!isPlain || isText) out.enum = [...new Map(values.map((value) => [JSON.stringify(value), value])).values()];
  return out;
}

export function toTypes(node: Schema): string[] {
  const given: unknown[] = Array.isArray(node.type) ? node.type : [node.type];
  const known = given.filter((type): type is string => TYPES.has(type));
  return [...new Set(node.nullable === true && known.length > 0 ? [...known, 'null'] : known)];
}

/** Several types become alternatives for a provider that accepts one. */
export function withTypes(
  node: Record<string, unknown>,
  types: readonly string[],
  isPlain: boolean,
): Record<string, unknown> {
  if (types.length === 0) return node;
  if (types.length === 1) return { type: types[0], ...node };
  if (!isPlain) return { type: types, ...node };
  if ('anyOf' in node) return node;
  const { title, description, ...rest } = node;
  const about = { ...(title !== undefined && { title }), ...(description !== undefined && { description }) };
  return { ...about, anyOf: types.map((type) => (type === 'null' ? { type } : { type, ...rest })) };
}

/** Gemini accepts no other keyword next to `anyOf`, so a description of all alternatives is repeated in each. */
export function withLoneAnyOf(node: Record<string, unknown>): Record<string, unknown> {
  if (!Array.isArray(node.anyOf)) return node;
  const { description } = node;
  return { anyOf: node.anyOf.map((one) => (description === undefined ? one : { description, ...one })) };
}

export function isPattern(text: string): boolean {
  try {
    new RegExp(text, 'u');
    return true;
  } catch {
    return false;
  }
}
