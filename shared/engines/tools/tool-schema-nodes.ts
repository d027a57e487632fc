// Cleans the schemas within the schema of a tool: each keyword that contains schemas, and references.
import { isObject } from '../../json/json-object.ts';
import { combine, type Resolve, type Schema, UnusableSchema } from './tool-schema-form.ts';
import { followReferences, resolvePointer } from './tool-schema-references.ts';
import { type Dialect, isPattern, RARE, toScalars, toTypes, withLoneAnyOf, withTypes } from './tool-schema-values.ts';

const NODES_MAX = 5_000;
const DEPTH_MAX = 48;

export type Cleaned = Record<string, unknown>;

export interface NodeCleaner {
  clean(value: unknown): Cleaned;
  /** The keywords `properties` and `required`. */
  cleanProperties(given: Schema, required: readonly unknown[]): Cleaned;
  /** The targets of all references in the cleaned schemas, by name. */
  definitions(): ReadonlyMap<string, Cleaned>;
}

export interface NodeCleanerOptions {
  readonly root: Schema;
  readonly dialect: Dialect;
  readonly resolve: Resolve;
  /** Returns the name of a property as the provider accepts it. */
  readonly toName: (name: string) => string;
}

/** The functions of the result throw UnusableSchema when the schema has too many nodes. */
export function createNodeCleaner({ root, dialect, resolve, toName }: NodeCleanerOptions): NodeCleaner {
  const isPlain = dialect === 'google' || dialect === 'codex';
  const definitions = createDefinitions();
  let nodes = 0;

  return {
    clean: (value) => clean(value, [], 1),
    cleanProperties: (given, required) => cleanProperties(given, required, [], 0),
    definitions() {
      const cleaned = new Map<string, Cleaned>();
      // A definition may refer to others, which the loop adds to the map.
      for (const [name, target] of definitions.targets) cleaned.set(name, clean(target, [], 1));
      return cleaned;
    },
  };

  /** `trail`: the references that lead to this node, to detect loops. */
  function clean(value: unknown, trail: readonly string[], depth: number): Cleaned {
    if (++nodes > NODES_MAX) throw new UnusableSchema('its schema is too large');
    if (!isObject(value) || depth > DEPTH_MAX) return {};
    const node = combine(value, resolve);
    if (typeof node.$ref !== 'string') return cleanKeywords(node, trail, depth);
    const referred = refer(node.$ref, trail, depth);
    const { description } = node;
    return dialect === 'anthropic' && typeof description === 'string' ? { ...referred, description } : referred;
  }

  /** A reference to a definition, or a copy of the target for a provider that reads no references. */
  function refer(first: string, trail: readonly string[], depth: number): Cleaned {
    const pointer = followReferences(root, first);
    const target = pointer === undefined ? undefined : resolvePointer(root, pointer);
    if (pointer === undefined || target === undefined) return {};
    if (isPlain) return trail.includes(pointer) ? {} : clean(target, [...trail, pointer], depth + 1);
    return { $ref: `#/$defs/${definitions.nameOf(pointer, target)}` };
  }

  function cleanKeywords(node: Schema, trail: readonly string[], depth: number): Cleaned {
    const out: Cleaned = toScalars(node, dialect);
    const each = (list: unknown): Cleaned[] =>
      Array.isArray(list) ? list.filter((one) => one !== false).map((one) => clean(one, trail, depth + 1)) : [];
    const types = toTypes(node);
    if (isObject(node.properties) || Array.isArray(node.required)) {
      const given = isObject(node.properties) ? node.properties : {};
      Object.assign(out, cleanProperties(given, Array.isArray(node.required) ? node.required : [], trail, depth));
    }
    for (const key of ['additionalProperties', 'propertyNames', 'not']) {
      if (key in node && !(isPlain && RARE.has(key))) {
        out[key] = typeof node[key] === 'boolean' ? node[key] : clean(node[key], trail, depth + 1);
      }
    }
    if (!isPlain && isObject(node.patternProperties)) {
      const kept = Object.entries(node.patternProperties).filter(([pattern]) => isPattern(pattern));
      out.patternProperties = Object.fromEntries(kept.map(([key, one]) => [key, clean(one, trail, depth + 1)]));
    }
    const tuple = each(Array.isArray(node.items) ? node.items : node.prefixItems);
    if (tuple.length > 0) out.prefixItems = tuple;
    if (isObject(node.items)) out.items = clean(node.items, trail, depth + 1);
    else if (types.includes('array')) out.items = {};
    for (const key of ['anyOf', 'oneOf']) {
      const alternatives = each(node[key]);
      if (alternatives.length > 0)
        out[key === 'oneOf' && dialect === 'anthropic' && !('anyOf' in out) ? key : 'anyOf'] = alternatives;
    }
    const typed = withTypes(out, types, isPlain);
    return dialect === 'google' ? withLoneAnyOf(typed) : typed;
  }

  function cleanProperties(
    given: Schema,
    required: readonly unknown[],
    trail: readonly string[],
    depth: number,
  ): Cleaned {
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
  }
}

/** The targets of references, each with a name of its own. */
function createDefinitions(): {
  /** By name, in the order in which they were added. */
  readonly targets: ReadonlyMap<string, unknown>;
  /** Adds the target of a JSON pointer if it is new. */
  nameOf(pointer: string, target: unknown): string;
} {
  const names = new Map<string, string>();
  const targets = new Map<string, unknown>();
  return {
    targets,
    nameOf(pointer, target) {
      const known = names.get(pointer);
      if (known !== undefined) return known;
      const name = `d${names.size + 1}`;
      names.set(pointer, name);
      targets.set(name, target);
      return name;
    },
  };
}
