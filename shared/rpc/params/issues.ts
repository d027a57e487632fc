// Maps the issues of a schema to the issues of error -32602, as plain sentences. A message names the param and never
// quotes its value, which may be a secret.
import { type ZodObject, z } from 'zod';
import type { Issue } from '../../errors.ts';
import { nearest } from './nearest.ts';

/** Most issues in one error. */
const ISSUES_MAX = 20;
const PATH_CHARS_MAX = 200;
const MESSAGE_CHARS_MAX = 400;
const REQUIRED = 'is required';
/**
 * Form of a param name. An unknown name of another form may be a misplaced secret (`{"sk-...": ...}`), so the error
 * does not repeat it.
 */
const PARAM_NAME = /^[A-Za-z][A-Za-z_-]{0,31}\d{0,2}$/;

type Raw = z.core.$ZodRawIssue;
type Found = z.core.$ZodIssue;
type Path = readonly PropertyKey[];

/** Parses params. Returns them, or at most 20 issues: dotted paths, each message a sentence without its full stop. */
export function checkParams<Schema extends ZodObject>(
  schema: Schema,
  params: unknown,
): { readonly params: z.output<Schema> } | { readonly issues: readonly Issue[] } {
  /**
   * Key: the `keys` array of an issue of unknown names; value: the names that the object accepts. An issue of zod does
   * not refer to its schema.
   */
  const declared = new Map<unknown, readonly string[]>();
  const parsed = schema.safeParse(params, {
    error(raw) {
      if (raw.code === 'unrecognized_keys' && raw.inst instanceof z.ZodObject) {
        declared.set(raw.keys, Object.keys(raw.inst.shape));
      }
      return toPhrase(raw);
    },
  });
  if (parsed.success) return { params: parsed.data };
  return { issues: parsed.error.issues.flatMap((issue) => toIssues(issue, [], declared)).slice(0, ISSUES_MAX) };
}

function toIssues(issue: Found, above: Path, declared: ReadonlyMap<unknown, readonly string[]>): Issue[] {
  const path = [...above, ...issue.path];
  if (issue.code === 'unrecognized_keys') {
    const names = declared.get(issue.keys) ?? [];
    return issue.keys.slice(0, ISSUES_MAX).map((key) => {
      if (!PARAM_NAME.test(key)) return toIssue(path, 'has an unknown name');
      const near = nearest(key, names);
      const hint = near === undefined ? '' : `, did you mean ${toText([...path, near])}?`;
      return toIssue([...path, key], `is not known${hint}`);
    });
  }
  if (issue.code === 'invalid_union') {
    const types = typesOf(issue.errors);
    if (types.length > 1) return [toIssue(path, `must be ${oneOf(types)}`)];
    const meant = closestForm(issue.errors);
    if (meant !== undefined) return meant.flatMap((inner) => toIssues(inner, path, declared));
  }
  if (issue.code === 'invalid_key' && issue.issues[0] !== undefined) {
    if (path.at(-1) === '') return [toIssue(path.slice(0, -1), 'must not have an empty name')];
    return [toIssue(path, `cannot be a name here: it ${issue.issues[0].message}`)];
  }
  return [toIssue(path, issue.message)];
}

/** The types of the members of a union, in words, if the value has none of them. */
function typesOf(forms: readonly (readonly Found[])[]): readonly string[] {
  const types = forms.map(([first]) =>
    first?.code === 'invalid_type' && first.path.length === 0 && first.message !== REQUIRED
      ? TYPES[first.expected]
      : undefined,
  );
  return types.includes(undefined) ? [] : [...new Set(types)].filter((type) => type !== undefined);
}

/** The issues of the member of a union that the caller most probably meant: the one with the fewest issues. */
function closestForm(forms: readonly (readonly Found[])[]): readonly Found[] | undefined {
  const weigh = (form: readonly Found[]): number => form.reduce((sum, issue) => sum + weightOf(issue), 0);
  return forms.filter((form) => form.length > 0).toSorted((a, b) => weigh(a) - weigh(b))[0];
}

/** A form of another type is the least probable one. */
function weightOf(issue: Found): number {
  if (issue.code === 'invalid_type' && issue.path.length === 0) return ISSUES_MAX;
  return issue.code === 'unrecognized_keys' ? issue.keys.length : 1;
}

function toIssue(path: Path, phrase: string): Issue {
  const text = toText(path);
  const message = `${text === '' ? 'params' : text} ${phrase}`;
  return { path: text, message: message.slice(0, MESSAGE_CHARS_MAX) };
}

function toText(path: Path): string {
  return path.map(String).join('.').slice(0, PATH_CHARS_MAX);
}

/** The part of a message after the name of the param. A message that the schema defines is used as it is. */
function toPhrase(issue: Raw): string {
  switch (issue.code) {
    case 'invalid_type':
      return issue.input === undefined ? REQUIRED : `must be ${TYPES[issue.expected] ?? issue.expected}`;
    case 'invalid_value':
      if (issue.input === undefined) return REQUIRED;
      return `must be ${oneOf(issue.values.map((value) => JSON.stringify(value) ?? String(value)))}`;
    case 'too_small':
      return tooSmall(issue.origin, issue.minimum, issue.inclusive !== false);
    case 'too_big':
      return tooBig(issue.origin, issue.maximum, issue.inclusive !== false);
    case 'invalid_format':
      return `must be ${FORMATS[issue.format] ?? `a valid ${issue.format}`}`;
    case 'not_multiple_of':
      return `must be a multiple of ${issue.divisor}`;
    case 'invalid_union':
      return issue.input === undefined ? REQUIRED : 'has none of the accepted forms';
    default:
      return 'is not valid';
  }
}

const TYPES: Readonly<Record<string, string>> = {
  string: 'a string',
  number: 'a number',
  int: 'an integer',
  boolean: 'true or false',
  array: 'a list',
  object: 'an object',
  record: 'an object',
  null: 'null',
};

const FORMATS: Readonly<Record<string, string>> = {
  base64: 'base64',
  datetime: 'a time in ISO 8601, like 2025-01-13T10:30:00Z',
  email: 'an email address',
  regex: 'in the form that rpc.discover describes',
  url: 'a URL',
  uuid: 'a UUID',
};

function tooSmall(origin: string, minimum: number | bigint, isInclusive: boolean): string {
  if (origin === 'string') return minimum === 1 ? 'must not be empty' : `must have at least ${minimum} characters`;
  if (isList(origin)) return minimum === 1 ? 'must not be empty' : `must have at least ${minimum} entries`;
  return isInclusive ? `must be at least ${minimum}` : `must be greater than ${minimum}`;
}

function tooBig(origin: string, maximum: number | bigint, isInclusive: boolean): string {
  if (origin === 'string') return `must have at most ${maximum} characters`;
  if (isList(origin)) return `must have at most ${maximum} entries`;
  return isInclusive ? `must be at most ${maximum}` : `must be less than ${maximum}`;
}

function isList(origin: string): boolean {
  return ['array', 'set', 'map', 'object', 'record'].includes(origin);
}

function oneOf(values: readonly string[]): string {
  return values.length < 2 ? values.join() : `${values.slice(0, -1).join(', ')} or ${values.at(-1)}`;
}
