// The JSON Schema of an answer: which schemas are accepted, and the check of an answer against its schema.
import { createContext, runInContext } from 'node:vm';
import { z } from 'zod';
import type { Issue } from './errors.ts';
import { endlessReference, formProblem } from './schema-form.ts';

export type OutputSchema = Readonly<Record<string, unknown>>;

const SCHEMA_CHARS_MAX = 64 << 10;
const ISSUES_MAX = 20;
const PATH_CHARS_MAX = 200;
const MESSAGE_CHARS_MAX = 400;
/** Places in a text at which JSON may begin. */
const STARTS_MAX = 32;
const STARTS = /[{["]/;
/** A pattern of a schema can take time that grows exponentially with the text. */
const CHECK_MS_MAX = 500;

/** Why a schema is not accepted, in plain words; undefined if it is. */
export function schemaProblem(schema: OutputSchema): string | undefined {
  if (JSON.stringify(schema).length > SCHEMA_CHARS_MAX) return 'must be at most 64 KiB of JSON';
  const problem = formProblem(schema);
  if (problem !== undefined) return `is not a JSON Schema: ${problem}`;
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

/** The JSON in an answer, checked against its schema. */
export async function readOutput(
  schema: OutputSchema,
  content: string,
): Promise<{ readonly output: unknown } | { readonly issues: readonly Issue[] }> {
  const found = withinTime(() => findJson(content));
  if (found === undefined) return { issues: [{ path: 'output', message: 'is not JSON' }] };
  const { output } = found;
  // Not needed before the first answer, so not loaded at start.
  const { CfWorkerJsonSchemaValidator } = await import('@modelcontextprotocol/client/validators/cf-worker');
  const check: Check = (value) =>
    new CfWorkerJsonSchemaValidator({ draft: '2020-12' }).getValidator(copyOf(schema))(value).errorMessage;
  const issues = withinTime(() => issuesOf(schema, withoutPrototypes(output), check));
  if (issues === undefined)
    return { issues: [{ path: 'output', message: 'takes too long, or is too deep, to check' }] };
  if (issues.length === 0) return { output };
  return {
    issues: issues.slice(0, ISSUES_MAX).map(({ path, message }) => ({
      path: ['output', ...path].join('.').slice(0, PATH_CHARS_MAX),
      message: message.slice(0, MESSAGE_CHARS_MAX),
    })),
  };
}

/**
 * The JSON value in an answer: all of it, or what follows other text, such as what the model wrote before it called a
 * tool.
 */
export function findJson(content: string): { readonly output: unknown } | undefined {
  const text = content.trim().replace(/^```(?:json)?\s*|\s*```$/g, '');
  let start = 0;
  for (let tries = 0; tries <= STARTS_MAX && start !== -1; tries++) {
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

/** Returns what does not match; undefined if all does. Throws for a pattern that is not valid with the flag `u`. */
type Check = (output: unknown) => string | undefined;

/**
 * What does not match. Zod describes it well, but ignores keywords beside which there is no `type`, and compares
 * objects of `const` and `enum` by identity, so another validator decides.
 */
function issuesOf(schema: OutputSchema, output: unknown, check: Check) {
  const described = toDescriber(schema)?.safeParse(output).error?.issues ?? [];
  try {
    const message = check(output);
    if (message === undefined) return [];
    return described.length > 0 ? described : [{ path: [], message: `does not match the schema: ${message}` }];
  } catch (error) {
    if (error instanceof RangeError) throw error;
    // Such a pattern is accepted only in a schema that zod can check.
    return described;
  }
}

/** Keywords that zod does not support, as its error names them. */
const UNDESCRIBED = /^(?:not|unevaluated\w+|Conditional schemas|dependentSchemas)\b.* not supported/;

/** Undefined for a schema that only the other validator can check. Throws for one that neither can. */
function toDescriber(schema: OutputSchema): z.ZodType | undefined {
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
function copyOf(schema: OutputSchema): Record<string, unknown> {
  return JSON.parse(JSON.stringify(schema));
}

/** A copy in which a name such as `constructor` is no member that an object has by itself. */
function withoutPrototypes(output: unknown): unknown {
  return JSON.parse(JSON.stringify(output), (_, value: unknown) =>
    typeof value === 'object' && value !== null && !Array.isArray(value)
      ? Object.assign(Object.create(null), value)
      : value,
  );
}

/** Undefined if the work takes longer, or is deeper, than a check may: `vm` also ends a regular expression. */
function withinTime<R>(work: () => R): R | undefined {
  let result: R | undefined;
  const run = (): void => {
    result = work();
  };
  try {
    runInContext('run()', createContext({ run }), { timeout: CHECK_MS_MAX });
    return result;
  } catch (error) {
    // The error of another context is no instance of this one's Error.
    if (Reflect.get(Object(error), 'code') === 'ERR_SCRIPT_EXECUTION_TIMEOUT') return undefined;
    if (error instanceof RangeError) return undefined;
    throw error;
  }
}
