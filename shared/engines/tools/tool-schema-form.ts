// Merges composed JSON Schemas. `allOf` becomes one schema. Providers accept no alternatives (`anyOf`, `oneOf`) at the
// root of a tool's parameters; there, alternatives become one set of properties, with a note that says which properties
// belong together.
import { isObject } from '../../json/json-object.ts';

export type Schema = Readonly<Record<string, unknown>>;
/** Returns the schema at a local reference; undefined if there is none. */
export type Resolve = (pointer: string) => unknown;

/** The properties that an object may have. */
export interface Form {
  readonly properties: Map<string, unknown>;
  readonly required: Set<string>;
  additionalProperties: unknown;
  /** Text for the model; `toName` returns the name under which the provider accepts a property. */
  readonly notes: ((toName: (name: string) => string) => string)[];
}

/** The schema cannot be sent to a model; the message has the reason. */
export class UnusableSchema extends Error {}

const ALTERNATIVES_MAX = 64;
/** Steps of references and of `allOf` within `allOf`. */
const STEPS_MAX = 8;
const PARTS_MAX = 64;
/** Keywords of a whole object that are described in text. */
const CONDITIONS = ['not', 'if', 'then', 'else', 'dependentRequired', 'dependentSchemas', 'enum', 'const'];

/** Returns the properties of a schema; undefined: no value that matches the schema is an object. */
export function toForm(value: unknown, resolve: Resolve, steps = 0): Form | undefined {
  const empty: Form = { properties: new Map(), required: new Set(), additionalProperties: undefined, notes: [] };
  if (value === false || steps > STEPS_MAX) return undefined;
  if (!isObject(value)) return empty;
  const node = dereference(value, resolve);
  const types: unknown = node.type;
  if (types !== undefined && ![types].flat().includes('object')) return undefined;
  const form: Form = { ...empty, additionalProperties: node.additionalProperties };
  if (isObject(node.properties))
    for (const [name, one] of Object.entries(node.properties)) form.properties.set(name, one);
  for (const name of toList(node.required)) if (typeof name === 'string') form.required.add(name);
  for (const part of toList(node.allOf)) {
    const other = toForm(part, resolve, steps + 1);
    if (other === undefined) return undefined;
    for (const [name, one] of other.properties) form.properties.set(name, both(form.properties.get(name), one));
    for (const name of other.required) form.required.add(name);
    form.notes.push(...other.notes);
  }
  for (const kind of ['anyOf', 'oneOf']) {
    const list = toList(node[kind]);
    if (list.length === 0) continue;
    if (list.length > ALTERNATIVES_MAX) throw new UnusableSchema(`it has more than ${ALTERNATIVES_MAX} alternatives`);
    const forms = list.flatMap((one) => toForm(one, resolve, steps + 1) ?? []);
    if (forms.length === 0) return undefined;
    addAlternatives(form, forms, kind === 'oneOf');
  }
  const conditions = Object.fromEntries(CONDITIONS.flatMap((key) => (key in node ? [[key, node[key]]] : [])));
  if (Object.keys(conditions).length > 0) {
    form.notes.push(() => `The arguments must also fit this JSON Schema: ${JSON.stringify(conditions)}`);
  }
  // Ignored for combined schemas, because each part may forbid properties that another part allows.
  if (toList(node.allOf).length > 0 || 'anyOf' in node || 'oneOf' in node) form.additionalProperties = undefined;
  return form;
}

function addAlternatives(form: Form, forms: readonly Form[], isExclusive: boolean): void {
  const names = new Set(forms.flatMap(({ properties }) => [...properties.keys()]));
  for (const name of names) {
    const variants = forms.flatMap(({ properties }) => (properties.has(name) ? [properties.get(name)] : []));
    const own = form.properties.get(name);
    // Alternatives that do not describe a property use the description in the enclosing schema.
    if (own !== undefined && variants.length < forms.length) continue;
    form.properties.set(name, both(own, either(variants)));
  }
  const [first] = forms;
  for (const name of first?.required ?? [])
    if (forms.every(({ required }) => required.has(name))) form.required.add(name);
  for (const { notes } of forms) form.notes.push(...notes);
  const common = new Set(form.required);
  form.notes.push((toName) => {
    const sets = forms.map(({ properties, required }) => {
      const needed = [...required].filter((name) => !common.has(name));
      const free = [...properties.keys()].filter((name) => !required.has(name) && !common.has(name));
      return [...needed.map(toName), ...free.map((name) => `${toName(name)} (optional)`)].join(', ');
    });
    const distinct = [...new Set(sets)];
    if (distinct.length < 2) return '';
    const forms_ = distinct.map((set, index) => `(${index + 1}) ${set === '' ? 'none of them' : set}`).join('; ');
    return `Give the properties of ${isExclusive ? 'exactly' : 'at least'} one of these forms: ${forms_}.`;
  });
}

/**
 * Returns the schema with the parts of `allOf` merged into it. If two parts define the same keyword, the first one is
 * used.
 */
export function combine(value: Schema, resolve: Resolve, steps = 0): Schema {
  const parts = toList(value.allOf).slice(0, PARTS_MAX);
  if (parts.length === 0) return value;
  const { allOf: _, $ref, ...own } = value;
  const all = [...(typeof $ref === 'string' ? [{ $ref }] : []), ...parts];
  // Generators of schemas write a described reference as `allOf` with one reference.
  const [only] = all;
  if (all.length === 1 && isObject(only) && Object.keys(own).every((key) => key === 'description')) {
    return steps < STEPS_MAX ? combine({ ...only, ...own }, resolve, steps + 1) : {};
  }
  const merged: Record<string, unknown> = { ...own };
  for (const part of all) {
    if (!isObject(part) || steps > STEPS_MAX) continue;
    const other = combine(dereference(part, resolve), resolve, steps + 1);
    for (const [key, member] of Object.entries(other)) {
      const mine = merged[key];
      if (mine === undefined) merged[key] = member;
      else if (key === 'properties' && isObject(mine) && isObject(member)) {
        const names = new Set([...Object.keys(mine), ...Object.keys(member)]);
        merged[key] = Object.fromEntries([...names].map((name) => [name, both(mine[name], member[name])]));
      } else if (key === 'required') merged[key] = [...toList(mine), ...toList(member)];
      else if (key === 'additionalProperties') merged[key] = mine === member ? mine : undefined;
    }
  }
  return merged;
}

/** Follows the references at the top of a schema, and merges the keywords next to them. */
function dereference(value: Schema, resolve: Resolve): Schema {
  let node = value;
  for (let step = 0; typeof node.$ref === 'string'; step++) {
    const { $ref, ...beside } = node;
    const target = step < STEPS_MAX ? resolve(String($ref)) : undefined;
    node = isObject(target) ? { ...target, ...beside } : beside;
  }
  return node;
}

function both(one: unknown, other: unknown): unknown {
  if (one === undefined || isSame(one, other)) return other;
  return other === undefined ? one : { allOf: [one, other] };
}

function either(variants: readonly unknown[]): unknown {
  const distinct = variants.filter((one, index) => variants.findIndex((other) => isSame(one, other)) === index);
  return distinct.length === 1 ? distinct[0] : { anyOf: distinct };
}

function isSame(one: unknown, other: unknown): boolean {
  return one === other || JSON.stringify(one) === JSON.stringify(other);
}

function toList(value: unknown): readonly unknown[] {
  return Array.isArray(value) ? value : [];
}
