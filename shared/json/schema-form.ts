// Checks the form of a JSON Schema (2020-12 and the drafts before it): what each keyword must be, and where other
// schemas are in it. Unknown keywords are allowed, as the specification demands.
import { isObject } from './json-object.ts';
import { toUnicodePattern } from './schema-pattern.ts';

type Form =
  | ('types' | 'list' | 'strings' | 'schemas' | 'schema' | 'branches' | 'number' | 'factor' | 'bound' | 'count')
  | ('text' | 'pattern' | 'flag' | 'patterns' | 'names' | 'dependencies' | 'any');

const FORMS: Readonly<Record<string, Form>> = {
  ...{ type: 'types', enum: 'list', required: 'strings', title: 'text', description: 'text', format: 'text' },
  ...{ properties: 'schemas', patternProperties: 'patterns', $defs: 'schemas', definitions: 'schemas' },
  ...{ additionalProperties: 'schema', propertyNames: 'schema', contains: 'schema', not: 'schema', items: 'schema' },
  // `await` takes an object with a literal `then` for a promise.
  ...Object.fromEntries(['if', 'then', 'else'].map((keyword) => [keyword, 'schema' as const])),
  ...{ dependentSchemas: 'schemas', dependentRequired: 'names' },
  ...{ unevaluatedProperties: 'schema', unevaluatedItems: 'schema', contentSchema: 'schema' },
  ...{ dependencies: 'dependencies', additionalItems: 'schema' },
  ...{ anyOf: 'branches', oneOf: 'branches', allOf: 'branches', prefixItems: 'branches' },
  ...{ minimum: 'number', maximum: 'number', multipleOf: 'factor' },
  ...{ exclusiveMinimum: 'bound', exclusiveMaximum: 'bound', minContains: 'count', maxContains: 'count' },
  ...{ minLength: 'count', maxLength: 'count', minItems: 'count', maxItems: 'count' },
  ...{ minProperties: 'count', maxProperties: 'count' },
  ...{ pattern: 'pattern', uniqueItems: 'flag', readOnly: 'flag', writeOnly: 'flag', deprecated: 'flag' },
  ...{ $ref: 'text', $dynamicRef: 'text', $recursiveRef: 'text', $recursiveAnchor: 'flag', $dynamicAnchor: 'text' },
  ...{ $id: 'text', $schema: 'text', $anchor: 'text', $comment: 'text', $vocabulary: 'any' },
  ...{ const: 'any', default: 'any', examples: 'list', contentEncoding: 'text', contentMediaType: 'text' },
};
const TYPES: ReadonlySet<unknown> = new Set(['string', 'number', 'integer', 'boolean', 'object', 'array', 'null']);

/** What is wrong with the form, in plain words: `properties.a.minimum must be a number`; undefined: nothing. */
export function formProblem(root: object): string | undefined {
  return schemaProblem(root, '');
}

function schemaProblem(schema: unknown, path: string): string | undefined {
  if (typeof schema === 'boolean') return undefined;
  if (!isObject(schema)) return `${path} must be an object`;
  return firstProblem(schema, (value, keyword) => {
    const form = formOf(keyword);
    return form === undefined ? undefined : problemOf(form, value, path === '' ? keyword : `${path}.${keyword}`);
  });
}

function formOf(keyword: string): Form | undefined {
  return Object.hasOwn(FORMS, keyword) ? FORMS[keyword] : undefined;
}

/** The known keywords of a schema, with another schema in the place of each schema in it. */
export function mapSchemas(schema: object, map: (schema: unknown, path: string) => unknown): Record<string, unknown> {
  const mapAll = (schemas: object, path: string) =>
    Object.fromEntries(Object.entries(schemas).map(([name, each]) => [name, map(each, `${path}.${name}`)]));
  return Object.fromEntries(
    Object.entries(schema).flatMap(([keyword, value]): [string, unknown][] => {
      switch (formOf(keyword)) {
        case undefined:
          return [];
        case 'schema':
        case 'branches':
          return [
            [
              keyword,
              Array.isArray(value) ? value.map((each, i) => map(each, `${keyword}.${i}`)) : map(value, keyword),
            ],
          ];
        case 'schemas':
        case 'patterns':
        case 'dependencies':
          return [[keyword, isObject(value) ? mapAll(value, keyword) : value]];
        default:
          return [[keyword, value]];
      }
    }),
  );
}

function problemOf(form: Form, value: unknown, path: string): string | undefined {
  const ofAll = (schemas: object): string | undefined =>
    firstProblem(schemas, (schema, name) => schemaProblem(schema, `${path}.${name}`));
  switch (form) {
    case 'schema':
      return Array.isArray(value) && path.endsWith('items') ? ofAll(value) : schemaProblem(value, path);
    case 'schemas':
      return isObject(value) ? ofAll(value) : `${path} must be an object`;
    case 'patterns':
      return isObject(value)
        ? (firstProblem(value, (_, name) => problemOf('pattern', name, `${path}.${name}`)) ?? ofAll(value))
        : `${path} must be an object`;
    case 'branches':
      return Array.isArray(value) && value.length > 0 ? ofAll(value) : `${path} must be a list of schemas`;
    case 'names':
      return isObject(value)
        ? firstProblem(value, (names, name) => problemOf('strings', names, `${path}.${name}`))
        : `${path} must be an object`;
    case 'dependencies':
      return isObject(value)
        ? firstProblem(value, (each, name) =>
            problemOf(Array.isArray(each) ? 'strings' : 'schema', each, `${path}.${name}`),
          )
        : `${path} must be an object`;
    case 'types': {
      const types = Array.isArray(value) ? value : [value];
      return types.length > 0 && types.every((type) => TYPES.has(type))
        ? undefined
        : `${path} must be string, number, integer, boolean, object, array or null`;
    }
    case 'any':
      return undefined;
    case 'list':
      return Array.isArray(value) ? undefined : `${path} must be a list of values`;
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
      return typeof value === 'string' && toUnicodePattern(value) !== undefined
        ? undefined
        : `${path} must be a regular expression`;
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

/** The number of objects in a schema, each of which may be a schema. */
export function countSchemas(root: unknown): number {
  if (typeof root !== 'object' || root === null) return 0;
  let count = Array.isArray(root) ? 0 : 1;
  for (const member of Object.values(root)) count += countSchemas(member);
  return count;
}
