// The OpenRPC 1.4 document (https://spec.open-rpc.org), generated from the schemas of the validators, so that it always
// matches them.
import { type ZodType, z } from 'zod';
import { ERRORS, type Reason } from '../errors.ts';
import type { AnyMethod, Registry } from './method.ts';

/** Errors that any call can return. */
const COMMON: readonly Reason[] = ['invalid_params', 'forbidden', 'rate_limited', 'unavailable', 'internal'];

type Json = Record<string, unknown>;

/** Per capability: the reason why the methods that need it are unavailable. */
export type Unavailable = Readonly<Partial<Record<NonNullable<AnyMethod<unknown>['needs']>, string>>>;

/** Builds the document; `version` is the version of the API. */
export function toOpenRpc<Context>(registry: Registry<Context>, version: string, unavailable: Unavailable = {}): Json {
  return {
    openrpc: '1.4.0',
    info: {
      title: 'Codex Gateway',
      version,
      description:
        'JSON-RPC 2.0 over HTTP (`POST /jsonrpc`, JSON or SSE) and WebSocket (`GET /ws`). Params are given by name.',
    },
    methods: [...registry.values()].map((method) => toMethod(method, unavailable)),
  };
}

function toMethod<Context>(method: AnyMethod<Context>, unavailable: Unavailable): Json {
  const missing = method.needs && unavailable[method.needs];
  const params = toSchema(method.params, 'input');
  const required = new Set(Array.isArray(params.required) ? params.required : []);
  return {
    name: method.name,
    summary: method.summary,
    paramStructure: 'by-name',
    params: Object.entries((params.properties ?? {}) as Record<string, Json>).map(([name, schema]) => ({
      name,
      required: required.has(name),
      ...(typeof schema.description === 'string' && { description: schema.description }),
      schema,
    })),
    result: { name: `${method.name}.result`, schema: toSchema(method.result, 'output') },
    errors: [...new Set([...COMMON, ...(method.errors ?? [])])].map((reason) => ({
      code: ERRORS[reason].code,
      message: ERRORS[reason].message,
      data: { reason },
    })),
    examples: [
      {
        name: `${method.name} example`,
        params: Object.entries(method.example.params).map(([name, value]) => ({ name, value })),
        result: { name: `${method.name}.result`, value: method.example.result },
      },
    ],
    'x-scope': method.scope,
    'x-cost': method.cost,
    'x-runs': method.runs === 'companion' ? 'companion' : 'anywhere',
    ...(method.needs && { 'x-available': missing === undefined }),
    ...(missing !== undefined && { 'x-unavailable-reason': missing }),
  };
}

/**
 * JSON Schema draft-07, the draft that OpenRPC uses. Refinements have no JSON Schema form; the schema then accepts more
 * than the validator.
 */
function toSchema(schema: ZodType, io: 'input' | 'output'): Json {
  const { $schema: _, ...json } = z.toJSONSchema(schema, { target: 'draft-7', io, unrepresentable: 'any' });
  return json;
}
