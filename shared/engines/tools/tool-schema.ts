// The JSON Schema of a tool, cleaned for a provider: only keywords that every validator supports, with values of the
// right form, so that no schema fails a whole request. Other keywords are removed, which only permits more: the tool's
// server checks the arguments.
import { createHash } from 'node:crypto';
import { combine, isRecord, type Resolve, type Schema, toForm, UnusableSchema } from './tool-schema-form.ts';
import { type Dialect, isPattern, RARE, toScalars, toTypes, withLoneAnyOf, withTypes } from './tool-schema-values.ts';

export interface CleanSchema {
  readonly schema: Record<string, unknown>;
  /** Replacement name -> the property name that the provider does not accept. */
  readonly names: ReadonlyMap<string, string>;
}

/** Most characters of a schema as the MCP server sends it. */
const CHARS_MAX = 64 << 10;
const NODES_MAX = 5_000;
/** Most references that are replaced by copies of their targets, because each copy may be large. */
const COPIES_MAX = 500;
const DEPTH_MAX = 48;
const NOTE_CHARS_MAX = 1_000;
/** Property names that Anthropic and OpenAI accept. */
const PROPERTY_NAME = /^[a-zA-Z0-9_.-]{1,64}$/;

/**
 * The root becomes an object without alternatives; these are merged into one set of properties and a note. Throws
 * UnusableSchema.
 */
export function cleanSchema(root: Schema, dialect: Dialect): CleanSchema {
  const isPlain = dialect === 'google' || dialect === 'codex';
  const names = new Map<string, string>();
  /** JSON pointer in `root` -> name of the definition. */
  const definitions = new Map<string, string>();
  const found = new Map<string, unknown>();
  let nodes = 0;
  let copies = 0;
  if (JSON.stringify(root).length > CHARS_MAX) throw new UnusableSchema('its schema is larger than 64 KiB');

  const resolve: Resolve = (pointer) => {
    if (++copies > COPIES_MAX) throw new UnusableSchema('its schema has too many references');
    return resolvePointer(root, pointer);
  };

  const toName = (name: string): string => {
    if (PROPERTY_NAME.test(name)) return name;
    const hash = createHash('sha256').update(name).digest('hex').slice(0, 8);
    const stand = `${name.replaceAll(/[^a-zA-Z0-9_.-]+/g, '_').slice(0, 50)}_${hash}`;
    names.set(stand, name);
    return stand;
  };

  const refer = (first: string, trail: readonly string[], depth: number): Record<string, unknown> => {
    const pointer = followReferences(root, first);
    const target = pointer === undefined ? undefined : resolvePointer(root, pointer);
    if (pointer === undefined || target === undefined) return {};
    if (isPlain) return trail.includes(pointer) ? {} : clean(target, [...trail, pointer], depth + 1);
    const known = definitions.get(pointer) ?? `d${definitions.size + 1}`;
    if (!definitions.has(pointer)) {
      definitions.set(pointer, known);
      found.set(known, target);
    }
    return { $ref: `#/$defs/${known}` };
  };

  const cleanProperties = (given: Schema, required: readonly unknown[], trail: readonly string[], depth: number) => {
    const properties: Record<string, unknown> = Object.create(null);
    for (const [name, value] of Object.entries(given)) {
      if (value === false) continue;
      const stand = toName(name);
      const cleaned = clean(value, trail, depth + 1);
      const note = `Named ${JSON.stringify(name)}.`;
      const described = typeof cleaned.description === 'string' ? `${note} ${cleaned.description}` : note;
      properties[stand] = stand === name || '$ref' in cleaned ? cleaned : { ...cleaned, description: described };
    }
    const needed = [...new Set(required)].flatMap((name) => (typeof name === 'string' ? [toName(name)] : []));
    for (const name of needed) properties[name] ??= {};
    return { properties: { ...properties }, ...(needed.length > 0 && { required: needed }) };
  };

  const clean = (value: unknown, trail: readonly string[], depth: number): Record<string, unknown> => {
    if (++nodes > NODES_MAX) throw new UnusableSchema('its schema is too large');
    if (!isRecord(value) || depth > DEPTH_MAX) return {};
    const node = combine(value, resolve);
    if (typeof node.$ref === 'string') {
      const referred = refer(node.$ref, trail, depth);
      const { description } = node;
      return dialect === 'anthropic' && typeof description === 'string' ? { ...referred, description } : referred;
    }
    const out: Record<string, unknown> = toScalars(node, dialect);
    const each = (list: unknown): Record<string, unknown>[] =>
      Array.isArray(list) ? list.filter((one) => one !== false).map((one) => clean(one, trail, depth + 1)) : [];
    const types = toTypes(node);
    if (isRecord(node.properties) || Array.isArray(node.required)) {
      const given = isRecord(node.properties) ? node.properties : {};
      Object.assign(out, cleanProperties(given, Array.isArray(node.required) ? node.required : [], trail, depth));
    }
    for (const key of ['additionalProperties', 'propertyNames', 'not']) {
      if (key in node && !(isPlain && RARE.has(key))) {
        out[key] = typeof node[key] === 'boolean' ? node[key] : clean(node[key], trail, depth + 1);
      }
    }
    if (!isPlain && isRecord(node.patternProperties)) {
      const kept = Object.entries(node.patternProperties).filter(([pattern]) => isPattern(pattern));
      out.patternProperties = Object.fromEntries(kept.map(([key, one]) => [key, clean(one, trail, depth + 1)]));
    }
    const tuple = each(Array.isArray(node.items) ? node.items : node.prefixItems);
    if (tuple.length > 0) out.prefixItems = tuple;
    if (isRecord(node.items)) out.items = clean(node.items, trail, depth + 1);
    else if (types.includes('array')) out.items = {};
    for (const key of ['anyOf', 'oneOf']) {
      const alternatives = each(node[key]);
      if (alternatives.length > 0)
        out[key === 'oneOf' && dialect === 'anthropic' && !('anyOf' in out) ? key : 'anyOf'] = alternatives;
    }
    const typed = withTypes(out, types, isPlain);
    return dialect === 'google' ? withLoneAnyOf(typed) : typed;
  };

  const form = toForm(root, resolve);
  if (form === undefined) throw new UnusableSchema('its parameters are not an object');
  const notes = form.notes.map((toText) => toText(toName)).filter((note) => note.length <= NOTE_CHARS_MAX);
  const text = [typeof root.description === 'string' ? root.description : '', ...notes]
    .filter((one) => one !== '')
    .join(' ');
  const extra = form.additionalProperties;
  const schema: Record<string, unknown> = {
    type: 'object',
    ...(text !== '' && { description: text.toWellFormed() }),
    ...cleanProperties(Object.fromEntries(form.properties), [...form.required], [], 0),
    ...(extra !== undefined && { additionalProperties: typeof extra === 'boolean' ? extra : clean(extra, [], 1) }),
  };
  // A definition may refer to others, which the loop adds to the map.
  const $defs: Record<string, unknown> = {};
  for (const [name, target] of found) $defs[name] = clean(target, [], 1);
  return { schema: found.size === 0 ? schema : { ...schema, $defs }, names };
}

/** Replaces the names in the arguments of a call by those of the tool's original schema. */
export function restoreNames(value: unknown, names: ReadonlyMap<string, string>): unknown {
  if (Array.isArray(value)) return value.map((item) => restoreNames(item, names));
  if (!isRecord(value)) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, member]) => [names.get(name) ?? name, restoreNames(member, names)]),
  );
}

/** The JSON pointer at the end of a chain of references; undefined for a missing target or a loop. */
function followReferences(root: Schema, first: string): string | undefined {
  const seen = new Set<string>();
  for (let pointer = first; !seen.has(pointer); ) {
    seen.add(pointer);
    const target = resolvePointer(root, pointer);
    if (!isRecord(target) || typeof target.$ref !== 'string') return pointer;
    pointer = target.$ref;
  }
  return undefined;
}

function resolvePointer(root: Schema, pointer: string): unknown {
  if (!/^#(?:\/|$)/.test(pointer)) return undefined;
  let at: unknown = root;
  for (const step of pointer.split('/').slice(1)) {
    const key = decode(step).replaceAll('~1', '/').replaceAll('~0', '~');
    if (typeof at !== 'object' || at === null || !Object.hasOwn(at, key)) return undefined;
    at = Reflect.get(at, key);
  }
  return at;
}

function decode(step: string): string {
  try {
    return decodeURIComponent(step);
  } catch {
    return step;
  }
}
