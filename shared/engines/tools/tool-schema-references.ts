// Resolves the references within a schema: JSON pointers into its root.
import { isObject } from '../../json/json-object.ts';
import type { Schema } from './tool-schema-form.ts';

/** The JSON pointer at the end of a chain of references; undefined for a missing target or a loop. */
export function followReferences(root: Schema, first: string): string | undefined {
  const seen = new Set<string>();
  for (let pointer = first; !seen.has(pointer); ) {
    seen.add(pointer);
    const target = resolvePointer(root, pointer);
    if (!isObject(target) || typeof target.$ref !== 'string') return pointer;
    pointer = target.$ref;
  }
  return undefined;
}

/** The schema at a JSON pointer; undefined when there is none, or the reference is not local. */
export function resolvePointer(root: Schema, pointer: string): unknown {
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
