// The JSON Schema of an answer: which schemas are accepted, and the JSON in an answer. output-checker.ts compares them.
import { z } from 'zod';
import { countSchemas, endlessReference, formProblem } from './schema-form.ts';

export type OutputSchema = Readonly<Record<string, unknown>>;

const SCHEMA_CHARS_MAX = 64 << 10;
/** Reading a schema takes up to 0.05 ms for each of the schemas in it. */
const SCHEMAS_MAX = 1_000;
const MESSAGE_CHARS_MAX = 400;
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
  const endless = endlessReference(schema);
  if (endless !== undefined) return `is not a JSON Schema that can be checked: ${endless} refers to itself without end`;
  if (isWrapped(schema) && /"\$ref":"#"/.test(JSON.stringify(schema)))
    return 'must have "type": "object" at its root, because it refers to its root ("$ref": "#")';
  try {
    toDescriber(schema);
    return undefined;
  } catch (error) {
    const reason = error instanceof Error ? error.message : '';
    return `is not a JSON Schema that can be checked: ${reason.slice(0, MESSAGE_CHARS_MAX)}`;
  }
}

/** The member with the answer in the object that a provider is required to answer. */
export const WRAPPED = 'value';

/** Whether the root is not an object, which providers require. */
export function isWrapped({ type }: OutputSchema): boolean {
  return type !== 'object';
}

/** The schema that is sent: a root that is not an object becomes a member of one. */
export function toSentSchema(schema: OutputSchema): OutputSchema {
  if (!isWrapped(schema)) return schema;
  // References are relative to the root.
  const { $defs, definitions, $schema, ...value } = schema;
  return {
    ...($schema !== undefined && { $schema }),
    type: 'object',
    properties: { [WRAPPED]: value },
    required: [WRAPPED],
    additionalProperties: false,
    ...($defs !== undefined && { $defs }),
    ...(definitions !== undefined && { definitions }),
  };
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

/** Keywords that zod does not support, as its error names them. */
const UNDESCRIBED = /^(?:not|unevaluated\w+|Conditional schemas|dependentSchemas)\b.* not supported/;

/** Undefined for a schema that only the other validator can check. Throws for one that neither can. */
export function toDescriber(schema: OutputSchema): z.ZodType | undefined {
  try {
    return z.fromJSONSchema(copyOf(schema));
  } catch (error) {
    if (!(error instanceof Error) || !UNDESCRIBED.test(error.message)) throw error;
    const problem = formProblem(schema, 'u');
    if (problem !== undefined) throw new Error(`${problem} that is valid with the flag "u"`);
    return undefined;
  }
}

/** Validators add members to the schema. */
export function copyOf(schema: OutputSchema): Record<string, unknown> {
  return JSON.parse(JSON.stringify(schema));
}
