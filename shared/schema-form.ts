// The form of a JSON Schema: what each keyword must be. Unknown keywords are allowed, as the specification demands.

type Form = 'types' | 'list' | 'strings' | 'schemas' | 'schema' | 'branches' | 'number' | 'count' | 'text' | 'flag';

const FORMS: Readonly<Record<string, Form>> = {
  ...{ type: 'types', enum: 'list', required: 'strings', title: 'text', description: 'text', format: 'text' },
  ...{ properties: 'schemas', patternProperties: 'schemas', $defs: 'schemas', definitions: 'schemas' },
  ...{ additionalProperties: 'schema', propertyNames: 'schema', contains: 'schema', not: 'schema', items: 'schema' },
  ...{ anyOf: 'branches', oneOf: 'branches', allOf: 'branches', prefixItems: 'branches' },
  ...{ minimum: 'number', maximum: 'number', multipleOf: 'number' },
  ...{ minLength: 'count', maxLength: 'count', minItems: 'count', maxItems: 'count' },
  ...{ minProperties: 'count', maxProperties: 'count' },
  ...{ pattern: 'text', $ref: 'text', $id: 'text', uniqueItems: 'flag' },
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
        : `${path} must be of ${[...TYPES].join(', ')}`;
    }
    case 'list':
      return Array.isArray(value) && value.length > 0 ? undefined : `${path} must be a list of values`;
    case 'strings':
      return Array.isArray(value) && value.every((item) => typeof item === 'string')
        ? undefined
        : `${path} must be a list of strings`;
    case 'number':
      return typeof value === 'number' ? undefined : `${path} must be a number`;
    case 'count':
      return Number.isInteger(value) && Number(value) >= 0 ? undefined : `${path} must be an integer of at least 0`;
    case 'text':
      return typeof value === 'string' ? undefined : `${path} must be a string`;
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
