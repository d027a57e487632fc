// The form of a JSON Schema: what each keyword must be. Unknown keywords are allowed, as the specification demands.
import { isObject } from './json-object.ts';

type Form =
  | ('types' | 'list' | 'strings' | 'schemas' | 'schema' | 'branches' | 'number' | 'factor' | 'bound' | 'count')
  | ('text' | 'pattern' | 'flag' | 'patterns' | 'reference' | 'names');

const FORMS: Readonly<Record<string, Form>> = {
  ...{ type: 'types', enum: 'list', required: 'strings', title: 'text', description: 'text', format: 'text' },
  ...{ properties: 'schemas', patternProperties: 'patterns', $defs: 'schemas', definitions: 'schemas' },
  ...{ additionalProperties: 'schema', propertyNames: 'schema', contains: 'schema', not: 'schema', items: 'schema' },
  // `await` takes an object with a literal `then` for a promise.
  ...Object.fromEntries(['if', 'then', 'else'].map((keyword) => [keyword, 'schema' as const])),
  ...{ dependentSchemas: 'schemas', dependentRequired: 'names' },
  ...{ unevaluatedProperties: 'schema', unevaluatedItems: 'schema' },
  ...{ anyOf: 'branches', oneOf: 'branches', allOf: 'branches', prefixItems: 'branches' },
  ...{ minimum: 'number', maximum: 'number', multipleOf: 'factor' },
  ...{ exclusiveMinimum: 'bound', exclusiveMaximum: 'bound', minContains: 'count', maxContains: 'count' },
  ...{ minLength: 'count', maxLength: 'count', minItems: 'count', maxItems: 'count' },
  ...{ minProperties: 'count', maxProperties: 'count' },
  ...{ pattern: 'pattern', $ref: 'reference', $id: 'text', $schema: 'text', $anchor: 'text', uniqueItems: 'flag' },
};
const TYPES: ReadonlySet<unknown> = new Set(['string', 'number', 'integer', 'boolean', 'object', 'array', 'null']);

interface Rules {
  readonly root: object;
  /** Of the regular expressions. */
  readonly flags: '' | 'u';
}

/** What is wrong with the form, in plain words: `properties.a.minimum must be a number`; undefined: nothing. */
export function formProblem(root: object, flags: Rules['flags'] = ''): string | undefined {
  return schemaProblem(root, 'the schema', { root, flags });
}

function schemaProblem(schema: unknown, path: string, rules: Rules): string | undefined {
  if (typeof schema === 'boolean') return undefined;
  if (!isObject(schema)) return `${path} must be an object`;
  const under = schema === rules.root ? '' : `${path}.`;
  for (const [keyword, value] of Object.entries(schema)) {
    const form = Object.hasOwn(FORMS, keyword) ? FORMS[keyword] : undefined;
    const problem = form === undefined ? undefined : problemOf(form, value, under + keyword, rules);
    if (problem !== undefined) return problem;
  }
  return undefined;
}

function problemOf(form: Form, value: unknown, path: string, rules: Rules): string | undefined {
  const ofAll = (schemas: object): string | undefined =>
    firstProblem(schemas, (schema, name) => schemaProblem(schema, `${path}.${name}`, rules));
  switch (form) {
    case 'schema':
      return Array.isArray(value) && path.endsWith('items') ? ofAll(value) : schemaProblem(value, path, rules);
    case 'schemas':
      return isObject(value) ? ofAll(value) : `${path} must be an object`;
    case 'patterns':
      return isObject(value)
        ? (firstProblem(value, (_, name) => problemOf('pattern', name, `${path}.${name}`, rules)) ?? ofAll(value))
        : `${path} must be an object`;
    case 'branches':
      return Array.isArray(value) && value.length > 0 ? ofAll(value) : `${path} must be a list of schemas`;
    case 'names':
      return isObject(value)
        ? firstProblem(value, (names, name) => problemOf('strings', names, `${path}.${name}`, rules))
        : `${path} must be an object`;
    case 'types': {
      const types = Array.isArray(value) ? value : [value];
      return types.length > 0 && types.every((type) => TYPES.has(type))
        ? undefined
        : `${path} must be string, number, integer, boolean, object, array or null`;
    }
    case 'list':
      return Array.isArray(value) && value.length > 0 ? undefined : `${path} must be a list of values`;
    case 'strings':
      return Array.isArray(value) && value.every((item) => typeof item === 'string')
        ? undefined
        : `${path} must be a list of strings`;
    case 'number':
      return typeof value === 'number' ? undefined : `${path} must be a number`;
    case 'factor':
      return typeof value === 'number' && value > 0 ? undefined : `${path} must be a number greater than 0`;
    // True in old drafts: `minimum` or `maximum` itself is excluded.
    case 'bound':
      return typeof value === 'number' || typeof value === 'boolean' ? undefined : `${path} must be a number`;
    case 'count':
      return Number.isInteger(value) && Number(value) >= 0 ? undefined : `${path} must be an integer of at least 0`;
    case 'text':
      return typeof value === 'string' ? undefined : `${path} must be a string`;
    case 'pattern':
      return typeof value === 'string' && isExpression(value, rules.flags)
        ? undefined
        : `${path} must be a regular expression`;
    case 'reference':
      return typeof value === 'string' && isResolved(value, rules.root)
        ? undefined
        : `${path} must refer to a member of $defs in the same schema`;
    case 'flag':
      return typeof value === 'boolean' ? undefined : `${path} must be true or false`;
  }
}

function firstProblem(
  members: object,
  problemOfMember: (member: unknown, name: string) => string | undefined,
): string | undefined {
  for (const [name, member] of Object.entries(members)) {
    const problem = problemOfMember(member, name);
    if (problem !== undefined) return problem;
  }
  return undefined;
}

/** Also to the root itself, `#`. */
function isResolved(reference: string, root: object): boolean {
  return (
    reference === '#' || (/^#\/(?:\$defs|definitions)\//.test(reference) && resolve(root, reference) !== undefined)
  );
}

function isExpression(text: string, flags: Rules['flags']): boolean {
  try {
    new RegExp(text, flags);
    return true;
  } catch {
    return false;
  }
}

/** The number of objects in a schema, each of which may be a schema. */
export function countSchemas(root: unknown): number {
  if (typeof root !== 'object' || root === null) return 0;
  let count = Array.isArray(root) ? 0 : 1;
  for (const member of Object.values(root)) count += countSchemas(member);
  return count;
}

/** The reference that leads back to itself for the same value, so that a check never ends; undefined: there is none. */
export function endlessReference(root: object): string | undefined {
  const state = new Map<object, 'open' | 'done'>();
  /** Schemas of the same value; `via` is the reference that led to them. */
  const follow = (schema: unknown, via: string): string | undefined => {
    if (!isObject(schema)) return undefined;
    const known = state.get(schema);
    if (known !== undefined) return known === 'open' ? via : undefined;
    state.set(schema, 'open');
    const { $ref, allOf, anyOf, oneOf, not, dependentSchemas, ...others }: Readonly<Record<string, unknown>> = {
      ...schema,
    };
    const lists = [allOf, anyOf, oneOf].flatMap((branches) => (Array.isArray(branches) ? branches : []));
    const dependent = isObject(dependentSchemas) ? Object.values(dependentSchemas) : [];
    const beside = [...lists, ...dependent, not, others.if, others.then, others.else];
    let found = typeof $ref === 'string' ? follow(resolve(root, $ref), $ref) : undefined;
    for (const branch of beside) found ??= follow(branch, via);
    state.set(schema, 'done');
    return found;
  };
  const visit = (value: unknown): string | undefined => {
    if (typeof value !== 'object' || value === null) return undefined;
    let found = follow(value, '');
    for (const member of Object.values(value)) found ??= visit(member);
    return found;
  };
  return visit(root);
}

/** The schema that a local reference names; undefined if there is none. */
function resolve(root: object, reference: string): unknown {
  if (!reference.startsWith('#')) return undefined;
  const names = reference.slice(1).split('/').slice(1);
  return names.reduce<unknown>((at, name) => {
    const member = name.replaceAll('~1', '/').replaceAll('~0', '~');
    return isObject(at) && Object.hasOwn(at, member) ? Reflect.get(at, member) : undefined;
  }, root);
}
