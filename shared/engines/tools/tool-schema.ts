// The JSON Schema of a tool, cleaned for a provider: only keywords that every validator supports, with values of the
// right form, so that no schema fails a whole request. Other keywords are removed, which only permits more: the tool's
// server checks the arguments.

import { createHash } from 'node:crypto';
import { isObject } from '../../json/json-object.ts';
import { type Resolve, type Schema, toForm, UnusableSchema } from './tool-schema-form.ts';
import { createNodeCleaner } from './tool-schema-nodes.ts';
import { resolvePointer } from './tool-schema-references.ts';
import type { Dialect } from './tool-schema-values.ts';

export interface CleanSchema {
  readonly schema: Record<string, unknown>;
  /** Replacement name -> the property name that the provider does not accept. */
  readonly names: ReadonlyMap<string, string>;
}

/** Most characters of a schema as the MCP server sends it. */
const CHARS_MAX = 64 << 10;
/** Most references that are replaced by copies of their targets, because each copy may be large. */
const COPIES_MAX = 500;
const NOTE_CHARS_MAX = 1_000;
/** Property names that Anthropic and OpenAI accept. */
const PROPERTY_NAME = /^[a-zA-Z0-9_.-]{1,64}$/;

/**
 * The root becomes an object without alternatives; these are merged into one set of properties and a note. Throws
 * UnusableSchema.
 */
export function cleanSchema(root: Schema, dialect: Dialect): CleanSchema {
  if (JSON.stringify(root).length > CHARS_MAX) throw new UnusableSchema('its schema is larger than 64 KiB');
  const names = new Map<string, string>();
  const toName = (name: string): string => {
    const accepted = toAcceptedName(name);
    if (accepted !== name) names.set(accepted, name);
    return accepted;
  };
  let copies = 0;
  const resolve: Resolve = (pointer) => {
    if (++copies > COPIES_MAX) throw new UnusableSchema('its schema has too many references');
    return resolvePointer(root, pointer);
  };
  const nodes = createNodeCleaner({ root, dialect, resolve, toName });

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
    ...nodes.cleanProperties(Object.fromEntries(form.properties), [...form.required]),
    ...(extra !== undefined && { additionalProperties: typeof extra === 'boolean' ? extra : nodes.clean(extra) }),
  };
  const definitions = nodes.definitions();
  return { schema: definitions.size === 0 ? schema : { ...schema, $defs: Object.fromEntries(definitions) }, names };
}

/** Replaces the names in the arguments of a call by those of the tool's original schema. */
export function restoreNames(value: unknown, names: ReadonlyMap<string, string>): unknown {
  if (Array.isArray(value)) return value.map((item) => restoreNames(item, names));
  if (!isObject(value)) return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, member]) => [names.get(name) ?? name, restoreNames(member, names)]),
  );
}

/** A property name that every provider accepts: the name itself, or its permitted characters and a hash of it. */
function toAcceptedName(name: string): string {
  if (PROPERTY_NAME.test(name)) return name;
  const hash = createHash('sha256').update(name).digest('hex').slice(0, 8);
  return `${name.replaceAll(/[^a-zA-Z0-9_.-]+/g, '_').slice(0, 50)}_${hash}`;
}
