// Checks whether a schema for answers is accepted, converts it to the form that is sent to a provider, and finds the
// JSON in an answer. output-checker.ts compares the answer with the schema.
import { countSchemas, formProblem } from './schema-form.ts';
import { endlessReference, isWrapped, toPlainSchema } from './schema-plain.ts';

export type OutputSchema = Readonly<Record<string, unknown>>;

const SCHEMA_CHARS_MAX = 64 << 10;
/** Reading a schema takes up to 0.05 ms for each of the schemas in it. */
const SCHEMAS_MAX = 1_000;
/** Places in a text at which JSON may begin. */
const STARTS_MAX = 32;
const STARTS = /[{["]/;
/** Characters that are parsed in vain before the search ends. */
const PARSED_CHARS_MAX = 8 << 20;

/** Why a schema is not accepted, in plain words; undefined if it is. */
export function schemaProblem(schema: OutputSchema): string | undefined {
  if (JSON.stringify(schema).length > SCHEMA_CHARS_MAX) return 'must be at most 64 KiB of JSON';
  const problem = formProblem(schema);
  if (problem !== undefined) return `is not a JSON Schema: ${problem}`;
  if (countSchemas(schema) > SCHEMAS_MAX) return `must have at most ${SCHEMAS_MAX} schemas in it`;
  const plain = toPlainSchema(schema);
  if (typeof plain === 'string') return `is not a JSON Schema that can be checked: ${plain}`;
  // What a reference leads to may be at a place that has no schema otherwise.
  const hidden = formProblem(plain);
  if (hidden !== undefined) return `is not a JSON Schema: ${hidden}`;
  const endless = endlessReference(plain);
  return endless && `is not a JSON Schema that can be checked: ${endless} refers to itself without end`;
}

/** The member with the answer in the object that a provider is required to answer. */
export const WRAPPED = 'value';

/** The schema that is sent: the plain form, in which a root that providers do not accept is a member of an object. */
export function toSentSchema(schema: OutputSchema): OutputSchema {
  const plain = toCheckedSchema(schema);
  if (!isWrapped(schema)) return plain;
  // References are relative to the root.
  const { $defs, ...value } = plain;
  return {
    type: 'object',
    properties: { [WRAPPED]: value },
    required: [WRAPPED],
    additionalProperties: false,
    ...($defs !== undefined && { $defs }),
  };
}

/** The plain form of a schema that was accepted. */
export function toCheckedSchema(schema: OutputSchema): OutputSchema {
  const plain = toPlainSchema(schema);
  if (typeof plain === 'string') throw new TypeError(`schema: ${plain}`);
  return plain;
}

/**
 * The JSON value in an answer: all of it, or what follows other text, such as what the model wrote before it called a
 * tool.
 */
export function findJson(content: string): { readonly output: unknown } | undefined {
  const text = content.trim().replace(/^```(?:json)?\s*|\s*```$/g, '');
  let start = 0;
  let chars = 0;
  for (let tries = 0; tries <= STARTS_MAX && start !== -1 && chars <= PARSED_CHARS_MAX; tries++) {
    chars += text.length - start;
    try {
      return { output: JSON.parse(text.slice(start)) };
    } catch {
      const from = start === 0 && tries === 0 ? 0 : start + 1;
      const next = text.slice(from).search(STARTS);
      start = next === -1 ? -1 : from + next;
    }
  }
  return undefined;
}
