// Each provider gets a schema of a tool that its own rules allow and that means the same as the server's. The rules are
// checked as the provider does, and the meaning with a validator.
import { Ajv2020 } from 'ajv/dist/2020.js';
import { describe, expect, it } from 'vitest';
import type { Toolset } from '../../../shared/engines/engine.ts';
import { fitToolset } from '../../../shared/engines/tools/fit-tools.ts';

type Json = Readonly<Record<string, unknown>>;
const MODELS = ['anthropic/claude-sonnet-4-5', 'openai/gpt-5', 'google/gemini-4', 'codex/gpt-5', 'mine/some-model'];

function toToolset(tools: readonly Json[], omitted: Toolset['omitted'] = []): Toolset {
  return {
    tools: tools.map((inputSchema, n) => ({ name: `s__t${n}`, server: 's', tool: `t${n}`, inputSchema })),
    chars: 0,
    omitted,
    call: async () => ({ content: '', isError: false }),
  };
}

/** The one tool of this schema as a model gets it; else why not. */
function fitOne(inputSchema: Json, model: string) {
  const fitted = fitToolset(toToolset([inputSchema]), model);
  const [tool] = fitted?.tools ?? [];
  return tool ?? fitted?.omitted?.[0]?.reason ?? '';
}

function schemaOf(inputSchema: Json, model: string): Json {
  const tool = fitOne(inputSchema, model);
  if (typeof tool === 'string') throw new Error(tool);
  return tool.inputSchema;
}

/** Every schema within a schema. */
function* nodesOf(schema: unknown): Generator<Json> {
  if (typeof schema !== 'object' || schema === null) return;
  if (!Array.isArray(schema)) yield { ...schema };
  for (const [key, value] of Object.entries(schema)) {
    if (key === 'properties' || key === '$defs' || key === 'patternProperties') {
      for (const one of Object.values(Object(value))) yield* nodesOf(one);
    } else if (!['enum', 'const', 'default', 'required'].includes(key)) yield* nodesOf(value);
  }
}

/** What a provider checks before it looks at the prompt. */
function checkRules(schema: Json, model: string): void {
  expect(schema.type).toBe('object');
  for (const key of ['anyOf', 'oneOf', 'allOf', 'enum', 'const', 'not', '$ref'])
    expect(schema).not.toHaveProperty([key]);
  for (const node of nodesOf(schema)) {
    for (const name of Object.keys(Object(node.properties))) expect(name).toMatch(/^[a-zA-Z0-9_.-]{1,64}$/);
    const required: unknown[] = Array.isArray(node.required) ? node.required : [];
    for (const name of required) expect(node.properties).toHaveProperty([String(name)]);
    if (node.type === 'array') expect(node).toHaveProperty('items');
    if (/^(google|codex)/.test(model)) {
      for (const key of [
        '$ref',
        'const',
        'oneOf',
        'allOf',
        'not',
        'exclusiveMinimum',
        'patternProperties',
        'default',
      ]) {
        expect(node).not.toHaveProperty([key]);
      }
      expect(Array.isArray(node.type)).toBe(false);
    }
    if (model.startsWith('google') && 'anyOf' in node) expect(Object.keys(node)).toEqual(['anyOf']);
  }
  new Ajv2020({ strict: false, validateFormats: false }).compile(schema);
}

const TEXT = { type: 'string' };
const FIND_PAGE = {
  type: 'object',
  properties: { id: TEXT, title: TEXT, 'filter[kind]': TEXT },
  anyOf: [{ required: ['id'] }, { required: ['title'] }],
};
const TREE = {
  type: 'object',
  properties: { root: { $ref: '#/definitions/Node[T]' } },
  required: ['root'],
  definitions: {
    'Node[T]': { type: 'object', properties: { next: { $ref: '#/definitions/Node[T]' }, name: TEXT } },
  },
};

const SCHEMAS: readonly (readonly [string, Json])[] = [
  ['alternatives at the root', FIND_PAGE],
  [
    'alternatives without a type',
    {
      oneOf: [
        { type: 'object', properties: { a: TEXT } },
        { type: 'object', properties: { b: TEXT } },
      ],
    },
  ],
  [
    'allOf at the root',
    {
      type: 'object',
      allOf: [{ properties: { a: TEXT }, required: ['a'] }, { $ref: '#/$defs/B' }],
      $defs: { B: { properties: { b: TEXT } } },
    },
  ],
  [
    'a reference at the root',
    { $ref: '#/definitions/X', definitions: { X: { type: 'object', properties: { a: TEXT } } } },
  ],
  ['recursion', TREE],
  ['recursion to the root', { type: 'object', properties: { child: { $ref: '#' } } }],
  [
    'a reference that leads nowhere',
    { type: 'object', properties: { a: { $ref: '#/nowhere' }, b: { $ref: 'https://x.example/s' } } },
  ],
  [
    'a loop of references',
    {
      type: 'object',
      properties: { a: { $ref: '#/$defs/a' } },
      $defs: { a: { $ref: '#/$defs/b' }, b: { $ref: '#/$defs/a' } },
    },
  ],
  [
    'conditions',
    // Written as text: an object with `then` passes for a promise.
    JSON.parse(
      '{"type":"object","properties":{"a":{"type":"string"}},"not":{"required":["b"]},"if":{"required":["a"]},"then":{"required":["c"]}}',
    ),
  ],
  [
    'what older drafts wrote',
    {
      type: 'object',
      properties: {
        n: { type: 'number', minimum: 0, exclusiveMinimum: true, required: true },
        t: { type: 'array', items: [TEXT, { type: 'any' }] },
      },
      id: 'x',
      $schema: 'http://json-schema.org/draft-03/schema#',
    },
  ],
  [
    'values of the wrong form',
    {
      type: 'object',
      properties: { a: { type: 'strng', enum: [], pattern: '(', minLength: -1, title: 7 }, b: true, c: null, d: 'x' },
      required: 'a',
    },
  ],
  [
    'no items, no type',
    { type: 'object', properties: { a: { type: 'array' }, b: {}, c: { type: ['array', 'null'] } } },
  ],
  [
    'types and nulls',
    {
      type: 'object',
      properties: {
        a: { type: ['string', 'null'], description: 'A' },
        b: { type: 'integer', nullable: true },
        c: { const: true },
      },
    },
  ],
  [
    'names that are not taken',
    {
      type: 'object',
      properties: { ü: TEXT, '': TEXT, 'a b': TEXT, 'a+b': TEXT, ['n'.repeat(80)]: TEXT, $top: TEXT },
      required: ['ü', 'missing'],
    },
  ],
  [
    'nested composition',
    {
      type: 'object',
      properties: {
        p: {
          allOf: [
            { type: 'object', properties: { x: TEXT } },
            { required: ['x'], oneOf: [{ properties: { y: TEXT } }] },
          ],
        },
      },
    },
  ],
  [
    'a described reference',
    {
      type: 'object',
      properties: { p: { description: 'P', allOf: [{ $ref: '#/$defs/E' }] } },
      $defs: { E: { enum: ['a', 'b'] } },
    },
  ],
  ['nothing', {}],
];

describe.each(MODELS)('%s', (model) => {
  it.each(SCHEMAS)('a provider accepts a tool schema with %s', (_name, schema) => {
    checkRules(schemaOf(schema, model), model);
  });

  it.each([
    ['a list', { type: 'array', items: TEXT }],
    ['a text', { type: 'string' }],
    ['no object among its alternatives', { anyOf: [{ type: 'string' }, { type: 'array' }] }],
  ])('a tool is omitted whose parameters are %s', (_name, schema) => {
    expect(fitOne(schema, model)).toBe('its parameters are not an object');
  });

  it('a tool that cannot be read in bounded time or size is omitted', () => {
    const loop = { anyOf: Array.from({ length: 64 }, () => ({ $ref: '#/$defs/a' })) };
    expect(fitOne({ ...loop, $defs: { a: loop } }, model)).toBe('its schema has too many references');
    expect(fitOne({ type: 'object', description: 'x'.repeat(70_000) }, model)).toBe('its schema is larger than 64 KiB');
    expect(fitOne({ type: 'object', anyOf: Array(65).fill({}) }, model)).toBe('it has more than 64 alternatives');
    const wide = { properties: Object.fromEntries(Array.from({ length: 6_000 }, (_, n) => [`p${n}`, 1])) };
    expect(fitOne({ type: 'object', ...wide }, model)).toBe('its schema is too large');
  });

  it('the schema of a tool states which properties belong together, and the tool is called with its own names', () => {
    const tool = fitOne(FIND_PAGE, model);
    if (typeof tool === 'string') throw new Error(tool);
    expect(tool.inputSchema.description).toBe('Give the properties of at least one of these forms: (1) id; (2) title.');
    const names = Object.keys(Object(tool.inputSchema.properties));
    expect(names.slice(0, 2)).toEqual(['id', 'title']);
    const [, , stand = ''] = names;
    expect(tool.toArguments?.({ id: '1', [stand]: 'blog', list: [{ [stand]: 1 }] })).toEqual({
      id: '1',
      'filter[kind]': 'blog',
      list: [{ 'filter[kind]': 1 }],
    });
  });

  it('the schema sent to the model admits what the tool’s own schema admits', () => {
    const schema = {
      type: 'object',
      properties: { kind: TEXT },
      required: ['kind'],
      oneOf: [
        { properties: { kind: { const: 'a' }, a: { type: 'integer' } }, required: ['a'] },
        { properties: { kind: { const: 'b' }, a: TEXT, b: TEXT }, required: ['b'] },
      ],
    };
    const cleaned = schemaOf(schema, model);
    const fits = new Ajv2020({ strict: false }).compile(cleaned);
    expect(
      [
        { kind: 'a', a: 1 },
        { kind: 'b', b: 'x', a: 'y' },
      ].map((value) => fits(value)),
    ).toEqual([true, true]);
    expect([{ a: 1 }, { kind: 'c' }, { kind: 'a', a: {} }].map((value) => fits(value))).toEqual([false, false, false]);
    expect(cleaned.description).toContain('exactly one of these forms: (1) a; (2) b, a (optional)');
  });
});

it.each(['anthropic/x', 'openai/x'])('a recursive schema stays recursive for %s', (model) => {
  const fits = new Ajv2020({ strict: false }).compile(schemaOf(TREE, model));
  expect(fits({ root: { name: 'a', next: { next: { name: 'c' } } } })).toBe(true);
  expect(fits({ root: { next: { next: { name: 1 } } } })).toBe(false);
});

describe('the tools of a prompt', () => {
  it('the tools of a prompt are at most 128 of those that can be used; the others are named', () => {
    const many = Array.from({ length: 140 }, (_, n) => (n === 5 ? { type: 'array' } : { type: 'object' }));
    const before = { server: 's', tool: 'odd', reason: 'it has no name' };
    const fitted = fitToolset(toToolset(many, [before]), 'openai/gpt-5');
    expect(fitted?.tools).toHaveLength(128);
    expect(fitted?.omitted?.slice(0, 3)).toEqual([
      before,
      { server: 's', tool: 't5', reason: 'its parameters are not an object' },
      { server: 's', tool: 't129', reason: 'a prompt may have at most 128 tools' },
    ]);
    expect(fitted?.omitted).toHaveLength(13);
  });

  it('the tools of a prompt are described in at most 128 KiB; a smaller tool after a large one is kept', () => {
    const large = { type: 'object', description: 'x'.repeat(50_000) };
    const fitted = fitToolset(toToolset([large, large, large, { type: 'object' }]), 'openai/gpt-5');
    expect(fitted?.tools.map(({ tool }) => tool)).toEqual(['t0', 't1', 't3']);
    expect(fitted?.chars).toBeLessThanOrEqual(128 << 10);
    expect(fitted?.omitted).toMatchObject([
      { tool: 't2', reason: 'the schemas of all tools of a prompt may have at most 128 KiB' },
    ]);
  });

  it('the tools of a prompt are the same text in every turn', () => {
    const toolset = toToolset(SCHEMAS.map(([, schema]) => schema));
    for (const model of MODELS) {
      expect(JSON.stringify(fitToolset(toolset, model))).toBe(JSON.stringify(fitToolset(toolset, model)));
    }
  });
});
