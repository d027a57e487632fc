// Converts a method's JSON schema to form fields, and typed texts to params. Pure.
import type { Param } from '../gateway/results.ts';

export type Field = { readonly name: string; readonly required: boolean; readonly hint: string } & (
  | { readonly kind: 'text' | 'long' | 'number' | 'boolean' | 'lines' | 'json' | 'text or json' }
  | { readonly kind: 'choice'; readonly choices: readonly string[] }
);

const LONG = new Set(['prompt', 'patch', 'stdin', 'instructions', 'data']);

export function toField({ name, required, description, schema }: Param): Field {
  const fallback = schema.default === undefined ? '' : `default ${JSON.stringify(schema.default)}`;
  const range = [schema.minimum, schema.maximum].some((bound) => bound !== undefined && Math.abs(bound) < 1e9)
    ? `${schema.minimum ?? ''}…${schema.maximum ?? ''}`
    : '';
  const base = { name, required, hint: [description, range, fallback].filter(Boolean).join('; ') };
  if (schema.enum !== undefined) return { ...base, kind: 'choice', choices: schema.enum.map(String) };
  switch (schema.type) {
    case 'string':
      return { ...base, kind: LONG.has(name) || (schema.maxLength ?? 0) > 4_096 ? 'long' : 'text' };
    case 'integer':
    case 'number':
      return { ...base, kind: 'number' };
    case 'boolean':
      return { ...base, kind: 'boolean' };
    case 'array':
      return { ...base, kind: schema.items?.type === 'string' ? 'lines' : 'json' };
    default:
      return { ...base, kind: schema.anyOf?.some(({ type }) => type === 'string') ? 'text or json' : 'json' };
  }
}

export type Texts = Readonly<Record<string, string>>;

/** Fields left empty are not sent. `problems` by field name. */
export function toParams(fields: readonly Field[], texts: Texts): { params: Record<string, unknown>; problems: Texts } {
  const params: Record<string, unknown> = {};
  const problems: Record<string, string> = {};
  for (const field of fields) {
    const text = texts[field.name] ?? '';
    if (text === '') {
      if (field.required) problems[field.name] = 'is needed';
      continue;
    }
    try {
      params[field.name] = toValue(field, text);
    } catch {
      problems[field.name] = field.kind === 'number' ? 'is not a number' : 'is not JSON';
    }
  }
  return { params, problems };
}

function toValue(field: Field, text: string): unknown {
  switch (field.kind) {
    case 'number': {
      const number = Number(text);
      if (!Number.isFinite(number)) throw new RangeError(text);
      return number;
    }
    case 'boolean':
      return text === 'true';
    case 'lines':
      return text.split('\n');
    case 'json':
      return JSON.parse(text);
    case 'text or json':
      return /^\s*(?:[[{]|null\s*$)/.test(text) ? toJson(text) : text;
    default:
      return text;
  }
}

/** A text may also begin with a bracket. */
function toJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

/** A value as the text of its field. */
export function toText(field: Field, value: unknown): string {
  if (value === undefined) return '';
  if (field.kind === 'lines' && Array.isArray(value)) return value.join('\n');
  return typeof value === 'string' && field.kind !== 'json'
    ? value
    : JSON.stringify(value, null, field.kind === 'json' ? 2 : 0);
}

/** The call as a shell line, with its events where it streams; the key is a variable, not its value. */
export function toCurl(origin: string, method: string, params: object, streams: boolean): string {
  const body = JSON.stringify({ jsonrpc: '2.0', method, params, id: 1 });
  const lines = [
    `curl -sS${streams ? 'N' : ''} ${origin}/jsonrpc`,
    `-H "X-API-Key: $GATEWAY_KEY"`,
    `-H 'Content-Type: application/json'`,
    ...(streams ? [`-H 'Accept: text/event-stream'`] : []),
    `-d '${body.replaceAll("'", `'\\''`)}'`,
  ];
  return lines.join(' \\\n  ');
}
