// The OpenRPC document of the whole registry is valid by the official meta-schema, another validator can use its
// schemas, and every example is accepted by the schemas that validate.
import { createRequire } from 'node:module';
import { Ajv, type ValidateFunction } from 'ajv';
import { describe, expect, it } from 'vitest';
import type { z } from 'zod';
import { ERRORS } from '../../../shared/errors.ts';
import * as methods from '../../../shared/methods/index.ts';
import { createRegistry } from '../../../shared/rpc/method.ts';
import { toOpenRpc } from '../../../shared/rpc/openrpc.ts';

const all = Object.values(methods);
const registry = createRegistry(all);
// Through JSON, as callers get it.
const document: OpenRpc = JSON.parse(JSON.stringify(toOpenRpc(registry, '1.2.3')));

interface OpenRpc {
  readonly openrpc: string;
  readonly info: { readonly version: string };
  readonly methods: readonly {
    readonly name: string;
    readonly params: readonly { readonly name: string; readonly required: boolean; readonly schema: object }[];
    readonly result: { readonly schema: object };
    readonly errors: readonly { readonly code: number; readonly data: { readonly reason: keyof typeof ERRORS } }[];
    readonly examples: readonly {
      readonly params: readonly { readonly name: string; readonly value: unknown }[];
      readonly result: { readonly value: unknown };
    }[];
  }[];
}

const { $schema: _, ...openrpcSchema }: Record<string, unknown> = createRequire(import.meta.url)(
  '@open-rpc/spec/1_4/schema.json',
);

/**
 * The published meta-schema, which refers to its sister for JSON Schema; draft-07 itself, stricter, stands in for that.
 */
function createMetaSchema(): ValidateFunction {
  const ajv = new Ajv({ strict: false, validateFormats: false });
  ajv.addSchema({ $id: 'https://meta.json-schema.tools', $ref: 'http://json-schema.org/draft-07/schema#' });
  ajv.addSchema({
    $id: 'https://meta.json-schema.tools/',
    definitions: { JSONSchemaObject: { properties: { $ref: { type: 'string' } } } },
  });
  return ajv.compile(openrpcSchema);
}

describe('the document', () => {
  it('the document is valid OpenRPC 1.4', () => {
    const validate = createMetaSchema();
    expect(validate(document), JSON.stringify(validate.errors)).toBe(true);
    expect(document).toMatchObject({ openrpc: expect.stringMatching(/^1\.4\.\d$/), info: { version: '1.2.3' } });
  });

  it('the document would not be valid if a method lost its params, or a schema its meaning', () => {
    const validate = createMetaSchema();
    const [first] = document.methods;
    expect(validate({ ...document, methods: [{ ...first, params: undefined }] })).toBe(false);
    expect(
      validate({ ...document, methods: [{ ...first, params: [{ name: 'a', schema: { type: 'strang' } }] }] }),
    ).toBe(false);
  });

  it('the document has every method once, under its wire name', () => {
    expect(document.methods.map(({ name }) => name).toSorted()).toEqual(all.map(({ name }) => name).toSorted());
  });
});

describe.each(document.methods.map((described) => [described.name, described] as const))('%s', (name, described) => {
  const method = registry.get(name);
  if (method === undefined) throw new Error(`${name} is not registered`);

  it('the document has an example that its own schemas accept, unchanged but for defaults', () => {
    expect(method.params.parse(method.example.params)).toMatchObject(method.example.params);
    expect(method.result.parse(method.example.result)).toEqual(method.example.result);
  });

  it('the document has schemas that another validator can use, which accept the example and require what is required', () => {
    // Patterns with \p{..} need the u flag, which ajv sets by default.
    const ajv = new Ajv({ strict: true, validateFormats: false, allowUnionTypes: true });
    const [example] = described.examples;
    const values = new Map(example?.params.map(({ name, value }) => [name, value]));
    for (const param of described.params) {
      const validate = ajv.compile(param.schema);
      if (param.required) expect(values.has(param.name)).toBe(true);
      if (values.has(param.name)) expect(validate(values.get(param.name)), param.name).toBe(true);
      expect(method.params.safeParse({ ...method.example.params, [param.name]: undefined }).success).toBe(
        !param.required,
      );
    }
    const validate = ajv.compile(described.result.schema);
    expect(validate(example?.result.value), JSON.stringify(validate.errors)).toBe(true);
  });

  it('the schema refuses an undeclared parameter', () => {
    const parsed = method.params.safeParse({ ...method.example.params, role: 'admin' });
    expect(parsed.error?.issues.map(({ code }: z.core.$ZodIssue) => code)).toEqual(['unrecognized_keys']);
  });

  it('a method names only errors of the table, each with its code', () => {
    for (const { code, data } of described.errors) expect(ERRORS[data.reason].code).toBe(code);
  });
});
