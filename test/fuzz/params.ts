// Params of a method, made from its own JSON Schema and its example: valid as a rule, then changed.
import fc from 'fast-check';
import { z } from 'zod';
import { naughtyKey, naughtyString, naughtyValue, Raw } from './literals.ts';

/** What the generator reads of a method; every entry of the registry has it. */
export interface FuzzedMethod {
  readonly name: string;
  readonly params: z.ZodObject;
  readonly example: { readonly params: object };
}

/** Values that mean something to the gateway under test, by `method.member` or by `member`. */
export type Known = Readonly<Record<string, readonly string[]>>;

type Json = { readonly [member: string]: unknown };
const isObject = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Params as the method wants them, but for what its schema cannot say. */
export function validParams(method: FuzzedMethod, known: Known): fc.Arbitrary<Json> {
  const schema = z.toJSONSchema(method.params, { io: 'input', unrepresentable: 'any' });
  const example = Object.entries(method.example.params);
  const members = Object.entries(schema.properties ?? {}).map(([name, member]) => {
    const shown = example.find(([key]) => key === name)?.[1];
    const values = known[`${method.name}.${name}`] ?? known[name] ?? [];
    const arbitrary = fc.oneof(
      { weight: 1, arbitrary: valueFor(member) },
      { weight: shown === undefined ? 0 : 4, arbitrary: fc.constant(shown) },
      ...(values.length === 0 ? [] : [{ weight: 4, arbitrary: fc.constantFrom(...values) }]),
    );
    return [name, schema.required?.includes(name) === true ? arbitrary : maybe(arbitrary)] as const;
  });
  return fc.record(Object.fromEntries(members), { noNullPrototype: true });
}

/** One to three changes anywhere in the params: another value, a member less, a member more; or no params at all. */
export function mutatedParams(method: FuzzedMethod, known: Known): fc.Arbitrary<unknown> {
  const change = fc.record({
    where: fc.nat(),
    how: fc.constantFrom('set', 'set', 'drop', 'add'),
    naughtyKey,
    naughtyValue,
  });
  const changed = fc
    .tuple(validParams(method, known), fc.array(change, { minLength: 1, maxLength: 3 }))
    .map(([params, changes]) =>
      changes.reduce<unknown>((value, { where, how, naughtyKey: key, naughtyValue: naughty }) => {
        const paths = pathsOf(value);
        const path = paths[where % paths.length] ?? [];
        if (how === 'add') return replace(value, [...path.slice(0, -1), key], naughty);
        return replace(value, path, how === 'drop' ? undefined : naughty);
      }, params),
    );
  return fc.oneof({ weight: 9, arbitrary: changed }, { weight: 1, arbitrary: naughtyValue });
}

function maybe<T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> {
  return fc.oneof({ weight: 3, arbitrary: fc.constant(undefined) }, { weight: 2, arbitrary });
}

function valueFor(schema: unknown): fc.Arbitrary<unknown> {
  if (!isObject(schema)) return naughtyValue;
  const { type } = schema;
  if ('const' in schema) return fc.constant(schema.const);
  if (Array.isArray(schema.enum)) return fc.constantFrom<unknown>(...schema.enum);
  const choices = schema.anyOf ?? schema.oneOf;
  if (Array.isArray(choices)) return fc.oneof(...choices.map(valueFor));
  if (type === 'boolean') return fc.boolean();
  if (type === 'integer' || type === 'number') {
    const min = typeof schema.minimum === 'number' ? Math.ceil(schema.minimum) : -1_000;
    const max = typeof schema.maximum === 'number' ? Math.floor(schema.maximum) : min + 2_000;
    return fc.oneof(
      fc.constantFrom(min, max),
      fc.maxSafeInteger().map((n) => Math.min(max, Math.max(min, n))),
    );
  }
  if (type === 'string') return fc.oneof(fc.constantFrom('a', 'hello', '/a'), naughtyString);
  if (type === 'array') return fc.array(valueFor(schema.items), { maxLength: 4 });
  if (type === 'object') {
    const required = Array.isArray(schema.required) ? schema.required : [];
    const members = Object.entries(isObject(schema.properties) ? schema.properties : {}).map(([name, member]) => {
      const arbitrary = valueFor(member);
      return [name, required.includes(name) ? arbitrary : maybe(arbitrary)] as const;
    });
    if (members.length > 0) return fc.record(Object.fromEntries(members), { noNullPrototype: true });
    return fc.dictionary(
      fc.oneof(fc.constantFrom('a', 'B_C', 'x-d'), naughtyKey),
      valueFor(schema.additionalProperties),
      {
        maxKeys: 4,
      },
    );
  }
  return naughtyValue;
}

/** Paths of all values inside, and of the whole. */
function pathsOf(value: unknown, path: readonly string[] = []): (readonly string[])[] {
  if (typeof value !== 'object' || value === null || value instanceof Raw) return [path];
  return [path, ...Object.entries(value).flatMap(([name, member]) => pathsOf(member, [...path, name]))];
}

/** A copy with another value at the path; undefined takes it away. */
function replace(value: unknown, [name, ...rest]: readonly string[], by: unknown): unknown {
  if (name === undefined) return by;
  if (Array.isArray(value))
    return value.map((item, index) => (String(index) === name ? replace(item, rest, by) : item));
  const object = isObject(value) && !(value instanceof Raw) ? value : {};
  const inner = Object.hasOwn(object, name) ? object[name] : undefined;
  return { ...object, [name]: replace(inner, rest, by) };
}
