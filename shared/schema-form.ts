// The form of a JSON Schema: what each keyword must be. Unknown keywords are allowed, as the specification demands.

type Form =
  | ('types' | 'list' | 'strings' | 'schemas' | 'schema' | 'branches' | 'number' | 'factor' | 'bound' | 'count')
  | ('text' | 'pattern' | 'flag');

const FORMS: Readonly<Record<string, Form>> = {
  ...{ type: 'types', enum: 'list', required: 'strings', title: 'text', description: 'text', format: 'text' },
  ...{ properties: 'schemas', patternProperties: 'schemas', $defs: 'schemas', definitions: 'schemas' },
  ...{ additionalProperties: 'schema', propertyNames: 'schema', contains: 'schema', not: 'schema', items: 'schema' },
  ...{ anyOf: 'branches', oneOf: 'branches', allOf: 'branches', prefixItems: 'branches' },
  ...{ minimum: 'number', maximum: 'number', multipleOf: 'factor' },
  ...{ exclusiveMinimum: 'bound', exclusiveMaximum: 'bound', minContains: 'count', maxContains: 'count' },
  ...{ minLength: 'count', maxLength: 'count', minItems: 'count', maxItems: 'count' },
  ...{ minProperties: 'count', maxProperties: 'count' },
  ...{ pattern: 'pattern', $ref: 'text', $id: 'text', $schema: 'text', $anchor: 'text', uniqueItems: 'flag' },
};
const TYPES: ReadonlySet<unknown> = new Set(['string', 'number', 'integer', 'boolean', 'object', 'array', 'null']);

/** What is wrong with the form, in plain words: `properties.a.minimum must be a number`; undefined: nothing. */
export function formProblem(schema: unknown, path = 'the schema'): string | undefined {
  if (typeof schema === 'boolean') return undefined;
  if (!isObject(schema)) return `${path} must be an object`;
  const under = path === 'the schema' ? '' : `${path}.`;
  for (const [keyword, value] of Object.entries(schema)) {
    const form = Object.hasOwn(FORMS, keyword) ? FORMS[keyword] : undefined;
    const problem = form === undefined ? undefined : problemOf(form, value, under + keyword);
    if (problem !== undefined) return problem;
  }
  return undefined;
}

function problemOf(form: Form, value: unknown, path: string): string | undefined {
  switch (form) {
    case 'schema':
      return Array.isArray(value) && path.endsWith('items') ? ofAll(value, path) : formProblem(value, path);
    case 'schemas':
      return isObject(value) ? ofAll(value, path) : `${path} must be an object`;
    case 'branches':
      return Array.isArray(value) && value.length > 0 ? ofAll(value, path) : `${path} must be a list of schemas`;
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
      return typeof value === 'string' && isExpression(value) ? undefined : `${path} must be a regular expression`;
    case 'flag':
      return typeof value === 'boolean' ? undefined : `${path} must be true or false`;
  }
}

function ofAll(schemas: object, path: string): string | undefined {
  for (const [name, schema] of Object.entries(schemas)) {
    const problem = formProblem(schema, `${path}.${name}`);
    if (problem !== undefined) return problem;
  }
  return undefined;
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isExpression(text: string): boolean {
  try {
    new RegExp(text);
    return true;
  } catch {
    return false;
  }
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
    const { $ref, allOf, anyOf, oneOf }: Readonly<Record<string, unknown>> = { ...schema };
    const beside = [allOf, anyOf, oneOf].flatMap((branches) => (Array.isArray(branches) ? branches : []));
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
