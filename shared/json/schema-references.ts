// Finds what the references of a JSON Schema lead to, by the rules of its drafts: pointers, `$id`, `$anchor` and
// `$dynamicRef`.
import { isObject } from './json-object.ts';
import { mapSchemas } from './schema-form.ts';

const REFERENCES = ['$ref', '$dynamicRef', '$recursiveRef'] as const;
/** The root without an `$id`. */
const BASE = 'json-schema:/';
/** Most characters of an `$id` with those around it: each reference and `$id` inside is resolved against it. */
const ID_CHARS_MAX = 2_048;
const OLD_DRAFT = /json-schema\.org\/draft-0[3-7]\//;

export interface References {
  /** What the references of a schema lead to, in the order of its keywords. */
  of(schema: object): readonly unknown[];
  /** All schemas that a reference leads to, with the last name of the first reference to it. */
  readonly targets: ReadonlyMap<unknown, string>;
}

/** Draft-07 and older ones ignore what is beside a reference. */
export function ofDraft(schema: object, root: object): object {
  const isOld = OLD_DRAFT.test(String(Reflect.get(root, '$schema')));
  if (!isOld || !('$ref' in schema)) return schema;
  return Object.fromEntries(Object.entries(schema).filter(([name]) => /^(?:\$ref|\$defs|definitions)$/.test(name)));
}

/** Returns a string for a reference that leads nowhere, or out of the schema: what is wrong with it. */
export function readReferences(root: object): References | string {
  const resources = new Map<string, object>();
  const anchors = new Map<string, unknown>();
  const anchorNames = new Set<string>();
  const bases = new Map<object, string>();
  const found: { readonly schema: object; readonly reference: string; readonly path: string }[] = [];
  const ambiguous = new Set<string>();
  let longId: string | undefined;

  const walk = (schema: unknown, outer: string, path: string): void => {
    if (!isObject(schema) || bases.has(schema)) return;
    const { $id, $anchor, $dynamicAnchor }: Readonly<Record<string, unknown>> = { ...ofDraft(schema, root) };
    const own = typeof $id === 'string' ? toUrl($id, outer) : undefined;
    if (own !== undefined && own.href.length > ID_CHARS_MAX) {
      longId ??= path === '' ? '$id' : `${path}.$id`;
      return;
    }
    const base = own === undefined || own.hash.length > 1 ? outer : withoutHash(own);
    bases.set(schema, base);
    if (base !== outer || path === '') resources.set(base, schema);
    const setAnchor = (url: string, name: string): void => {
      anchors.set(url, schema);
      anchorNames.add(name);
    };
    if (own !== undefined && own.hash.length > 1) setAnchor(own.href, own.hash.slice(1));
    for (const anchor of [$anchor, $dynamicAnchor]) {
      if (typeof anchor !== 'string') continue;
      if (anchor === $dynamicAnchor && anchorNames.has(anchor)) ambiguous.add(anchor);
      setAnchor(`${base}#${anchor}`, anchor);
    }
    for (const keyword of REFERENCES) {
      const reference: unknown = Reflect.get(schema, keyword);
      if (typeof reference === 'string')
        found.push({ schema, reference, path: path === '' ? keyword : `${path}.${keyword}` });
    }
    mapSchemas(ofDraft(schema, root), (inner, at) => walk(inner, base, path === '' ? at : `${path}.${at}`));
  };

  const resolve = (reference: string, base: string): unknown => {
    const url = toUrl(reference, base);
    if (url === undefined) return undefined;
    const fragment = decode(url.hash.slice(1));
    const resource = resources.get(withoutHash(url));
    if (fragment === '' || resource === undefined) return resource;
    return fragment.startsWith('/') ? atPointer(resource, fragment) : anchors.get(`${withoutHash(url)}#${fragment}`);
  };

  walk(root, BASE, '');
  const links = new Map<object, unknown[]>();
  const targets = new Map<unknown, string>();
  for (const { schema, reference, path } of found) {
    if (longId !== undefined) break;
    const base = bases.get(schema) ?? BASE;
    const target = resolve(reference, base);
    if (target === undefined) return `${path} must refer to a part of the same schema`;
    if (!isObject(target) && typeof target !== 'boolean') return `${path} must refer to a schema`;
    if (ambiguous.has(reference.split('#').at(-1) ?? '') && path.endsWith('$dynamicRef'))
      return `${path} must refer to one schema: there are several with this $dynamicAnchor`;
    links.set(schema, [...(links.get(schema) ?? []), target]);
    if (!targets.has(target)) targets.set(target, decode(reference).split(/[#/]/).at(-1) ?? '');
    // A pointer may lead to a place at which no keyword has a schema. Adds to `found`.
    walk(target, base, reference);
  }
  if (longId !== undefined) return `${longId} must be at most ${ID_CHARS_MAX} characters, with the $id around it`;
  return { of: (schema) => links.get(schema) ?? [], targets };
}

function atPointer(root: object, pointer: string): unknown {
  const names = pointer.slice(1).split('/');
  return names.reduce<unknown>((at, name) => {
    const member = name.replaceAll('~1', '/').replaceAll('~0', '~');
    return typeof at === 'object' && at !== null && Object.hasOwn(at, member) ? Reflect.get(at, member) : undefined;
  }, root);
}

function toUrl(reference: string, base: string): URL | undefined {
  return URL.parse(reference, base) ?? undefined;
}

function withoutHash(url: URL): string {
  return url.href.replace(/#.*$/, '');
}

function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
