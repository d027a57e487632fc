// Converts a JSON Schema to one plain form, which validators and providers read alike: of JSON Schema 2020-12, its
// references to `#` or a member of `$defs` at its root, its patterns valid with the flag `u`, without ids, anchors,
// comments and unknown keywords.
import { isObject } from './json-object.ts';
import { mapSchemas } from './schema-form.ts';
import { toUnicodePattern } from './schema-pattern.ts';
import { ofDraft, type References, readReferences } from './schema-references.ts';

type Schema = Readonly<Record<string, unknown>>;

/** Keywords that providers do not accept at the root. */
const COMBINED = ['anyOf', 'oneOf', 'allOf', 'not', 'enum', 'const', '$ref', '$dynamicRef', '$recursiveRef'];

/** Whether the root is not a plain object, which providers require. */
export function isWrapped(schema: Schema): boolean {
  return schema.type !== 'object' || COMBINED.some((keyword) => keyword in schema);
}

/** Returns a string if a reference leads to no schema: what is wrong with it. */
export function toPlainSchema(root: Schema): Schema | string {
  const references = readReferences(root);
  if (typeof references === 'string') return references;
  const names = nameTargets(references, root);
  const convert = (schema: unknown): unknown => {
    const name = names.get(schema);
    return name !== undefined && isObject(schema) ? { $ref: toPointer(name) } : convertWhole(schema);
  };
  const convertWhole = (schema: unknown): unknown => {
    if (!isObject(schema)) return schema;
    const refs = references.of(schema).map((target) => ({ $ref: toPointer(names.get(target)) }));
    return toPlain(mapSchemas(ofDraft(schema, root), convert), refs);
  };
  const $defs = [...names].map(([target, name]) => [name, convertWhole(target)]);
  const plain = names.has(root) ? convert(root) : convertWhole(root);
  return { ...Object(plain), ...($defs.length > 0 && { $defs: Object.fromEntries($defs) }) };
}

/** A root that remains the root needs no name. */
function nameTargets({ targets }: References, root: Schema): ReadonlyMap<unknown, string> {
  const names = new Map<unknown, string>();
  const used = new Set<string>();
  for (const [target, given] of targets) {
    if (target === root && !isWrapped(root)) continue;
    const base = given.replace(/[^a-zA-Z0-9_-]/g, '_').slice(0, 40);
    const start = /^[a-zA-Z]/.test(base) ? base : `${target === root ? 'root' : 'schema'}${base}`;
    let name = start;
    for (let count = 2; used.has(name); count++) name = `${start}_${count}`;
    used.add(name);
    names.set(target, name);
  }
  return names;
}

function toPointer(name: string | undefined): string {
  return name === undefined ? '#' : `#/$defs/${name}`;
}

/** What a plain schema has no more: it is resolved, at the root, or without effect on a check. */
const DROPPED: ReadonlySet<string> = new Set([
  ...['$ref', '$dynamicRef', '$recursiveRef', '$id', '$anchor', '$dynamicAnchor', '$recursiveAnchor', '$schema'],
  ...['$vocabulary', '$comment', '$defs', 'definitions', 'contentSchema', 'dependencies'],
]);

/** `refs`: what its references lead to. */
function toPlain(mapped: Schema, refs: readonly { readonly $ref: string }[]): Schema {
  const { pattern, patternProperties, propertyNames, allOf, ...others } = mapped;
  const kept = Object.fromEntries(Object.entries(others).filter(([keyword]) => !DROPPED.has(keyword)));
  const [first, ...more] = refs;
  const all = [...more, ...(Array.isArray(allOf) ? allOf : [])];
  const patterns = isObject(patternProperties) && Object.entries(patternProperties).map(withUnicodeName);
  const plain = {
    ...first,
    ...kept,
    ...(all.length > 0 && { allOf: all }),
    ...(typeof pattern === 'string' && { pattern: toUnicodePattern(pattern) ?? pattern }),
    ...(patterns && { patternProperties: Object.fromEntries(patterns) }),
    ...toNames(propertyNames),
  };
  return withDependencies(withBounds(withItems(plain)), mapped.dependencies);
}

function withUnicodeName([name, schema]: [string, unknown]): [string, unknown] {
  return [toUnicodePattern(name) ?? name, schema];
}

/** A name is always a string, and the SDK of OpenAI refuses other types. */
function toNames(propertyNames: unknown): Schema {
  if (propertyNames === undefined || propertyNames === true) return {};
  const { type, ...names }: Schema = { ...Object(propertyNames) };
  if (propertyNames === false || (type !== undefined && ![type].flat().includes('string'))) return { maxProperties: 0 };
  return { propertyNames: { type: 'string', ...names } };
}

/** A list of schemas in `items` is `prefixItems` by now, and `additionalItems` is `items`. */
function withItems({ items, additionalItems, ...plain }: Schema): Schema {
  if (items === undefined) return plain;
  if (!Array.isArray(items)) return { ...plain, items };
  return {
    ...plain,
    ...(items.length > 0 && { prefixItems: items }),
    ...(additionalItems !== undefined && { items: additionalItems }),
  };
}

/** In draft-04, `exclusiveMinimum: true` excludes `minimum` itself. */
function withBounds(plain: Schema): Schema {
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum, ...others } = plain;
  return {
    ...others,
    ...toBound('minimum', 'exclusiveMinimum', minimum, exclusiveMinimum),
    ...toBound('maximum', 'exclusiveMaximum', maximum, exclusiveMaximum),
  };
}

function toBound(name: string, exclusiveName: string, bound: unknown, exclusive: unknown): Schema {
  if (typeof exclusive !== 'boolean')
    return {
      ...(bound !== undefined && { [name]: bound }),
      ...(exclusive !== undefined && { [exclusiveName]: exclusive }),
    };
  if (bound === undefined) return {};
  return { [exclusive ? exclusiveName : name]: bound };
}

/** What `dependencies` had in one is in two keywords by now. */
function withDependencies(plain: Schema, dependencies: unknown): Schema {
  if (!isObject(dependencies)) return plain;
  const entries: [string, unknown][] = Object.entries(dependencies);
  const required = Object.fromEntries(entries.filter(([, each]) => Array.isArray(each)));
  const schemas = Object.fromEntries(entries.filter(([, each]) => !Array.isArray(each)));
  return {
    ...plain,
    dependentRequired: { ...required, ...Object(plain.dependentRequired) },
    dependentSchemas: { ...schemas, ...Object(plain.dependentSchemas) },
  };
}

/** The reference of a plain schema that leads back to itself for the same value, so that a check would never end. */
export function endlessReference(root: Schema): string | undefined {
  const state = new Map<object, 'open' | 'done'>();
  /** Schemas of the same value; `via` is the reference that led to them. */
  const follow = (schema: unknown, via: string): string | undefined => {
    if (!isObject(schema)) return undefined;
    const known = state.get(schema);
    if (known !== undefined) return known === 'open' ? via : undefined;
    state.set(schema, 'open');
    const { $ref, allOf, anyOf, oneOf, not, dependentSchemas, ...others }: Schema = { ...schema };
    const lists = [allOf, anyOf, oneOf].flatMap((branches) => (Array.isArray(branches) ? branches : []));
    const dependent = isObject(dependentSchemas) ? Object.values(dependentSchemas) : [];
    const beside = [...lists, ...dependent, not, others.if, others.then, others.else];
    let found = typeof $ref === 'string' ? follow(targetOf(root, $ref), $ref) : undefined;
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

function targetOf(root: Schema, pointer: string): unknown {
  const name = pointer.split('/').at(-1) ?? '';
  return name === '#' ? root : Reflect.get(Object(root.$defs), name);
}
