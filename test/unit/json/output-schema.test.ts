// A JSON Schema of an answer is accepted or refused with a plain message, and an answer is compared with it by the
// rules of its draft, without blocking the process.
import { describe, expect, it, vi } from 'vitest';
import { z } from 'zod';
import { type CheckOptions, checkOutput } from '../../../shared/json/output-checker.ts';
import { findJson, type OutputSchema, schemaProblem, toSentSchema } from '../../../shared/json/output-schema.ts';

const NEVER = new AbortController().signal;

/** For checks without an end: at the default, each occupies a processor for 2 s. */
const BRIEF = { timeoutMs: 300 };

async function readOutput(schema: OutputSchema, content: string, limit: Pick<CheckOptions, 'timeoutMs'> = {}) {
  const issues = await checkOutput(schema, content, { owner: 'a', signal: NEVER, ...limit });
  return issues.length > 0 ? { issues } : findJson(content);
}

const CITY: OutputSchema = {
  type: 'object',
  properties: { city: { type: 'string' }, people: { type: 'integer', minimum: 0 } },
  required: ['city'],
  additionalProperties: false,
};

const CONDITIONAL: OutputSchema = {
  type: 'object',
  properties: { kind: { type: 'string' }, door: { $ref: '#/$defs/door' } },
  if: { properties: { kind: { const: 'shop' } } },
  // `await` takes an object with a literal `then` for a promise.
  ...Object.fromEntries([['then', { required: ['door'] }]]),
  else: { not: { required: ['door'] } },
  $defs: { door: { type: 'string' } },
};

/** Its check takes longer than the worker may. */
const SLOW: [OutputSchema, string] = [
  { patternProperties: { '^(a+)+$': {} } },
  JSON.stringify({ [`${'a'.repeat(64)}!`]: 1 }),
];
/** Only the worker checks it. */
const LONG: [OutputSchema, string] = [CITY, JSON.stringify({ city: 'x'.repeat(300_000) })];

describe('a schema of an answer', () => {
  it.each<[string, OutputSchema]>([
    ['an object', CITY],
    ['any JSON', {}],
    ['a list', { type: 'array', items: { type: ['string', 'null'] } }],
    ['a text', { type: 'string', enum: ['a', 'b'] }],
    ['one of several', { anyOf: [{ type: 'string' }, CITY] }],
    ['with unknown keywords', { ...CITY, 'x-note': 5, propertis: 5 }],
    ['with references', { type: 'object', properties: { a: { $ref: '#/$defs/a' } }, $defs: { a: { type: 'array' } } }],
    [
      'that refers to itself',
      { type: 'object', properties: { next: { anyOf: [{ $ref: '#' }, { type: 'null' }] } }, required: ['next'] },
    ],
  ])('a schema of an answer is accepted: %s', (_, schema) => {
    expect(schemaProblem(schema)).toBeUndefined();
  });

  it.each<[OutputSchema, RegExp]>([
    [
      { type: 'object', properties: { a: { type: 'strin' } } },
      /^is not a JSON Schema: properties.a.type must be string, number, /,
    ],
    [{ type: 'object', properties: 5 }, /^is not a JSON Schema: properties must be an object$/],
    [{ type: 'object', properties: { a: 5 } }, /: properties.a must be an object$/],
    [{ type: 'object', required: 'a' }, /: required must be a list of strings$/],
    [{ type: 'object', properties: { a: { minimum: 'x' } } }, /: properties.a.minimum must be a number$/],
    [{ type: 'object', properties: { a: { maxLength: -1 } } }, /maxLength must be an integer of at least 0$/],
    [{ type: 'object', properties: { a: { enum: 'x' } } }, /: properties.a.enum must be a list of values$/],
    [{ type: 'object', properties: { a: { anyOf: {} } } }, /: properties.a.anyOf must be a list of schemas$/],
    [{ type: 'array', items: [{ type: 'x' }] }, /: items.0.type must be string/],
    [{ type: 'object', additionalProperties: 3 }, /: additionalProperties must be an object$/],
    [{ type: 'object', title: 3 }, /: title must be a string$/],
    [
      { type: 'object', properties: { a: { type: 'string', pattern: '(' } } },
      /: properties.a.pattern must be a regular expression$/,
    ],
    [{ patternProperties: { '(': {} } }, /: patternProperties.\( must be a regular expression$/],
    [{ pattern: '(' }, /: pattern must be a regular expression$/],
    [{ type: 'number', multipleOf: 0 }, /: multipleOf must be a number greater than 0$/],
    [{ type: 'number', exclusiveMinimum: '5' }, /: exclusiveMinimum must be a number$/],
    [{ type: 'array', contains: {}, minContains: -1 }, /: minContains must be an integer of at least 0$/],
    [{ $schema: 5 }, /: \$schema must be a string$/],
    [{ $ref: '#/$defs/a', $defs: { a: { $ref: '#/$defs/a' } } }, /checked: #\/\$defs\/a refers to itself without end$/],
    [
      { type: 'object', properties: { b: { $ref: '#/$defs/b' } }, $defs: { b: { anyOf: [{ $ref: '#/$defs/b' }] } } },
      /checked: #\/\$defs\/b refers to itself without end$/,
    ],
    [{ type: 'object', allOf: [{ $ref: '#' }] }, /checked: #\/\$defs\/root refers to itself without end$/],
    [
      { type: 'object', properties: { a: { $ref: '#/$defs/no' } } },
      /: properties.a.\$ref must refer to a part of the same schema$/,
    ],
    [
      { type: 'object', properties: { a: { $ref: 'https://example.com/a' } } },
      /: properties.a.\$ref must refer to a part of the same schema$/,
    ],
    [{ type: 'object', not: { $ref: '#/$defs/no' } }, /: not.\$ref must refer to a part of the same schema$/],
    [{ type: 'object', not: 5 }, /: not must be an object$/],
    [{ type: 'object', if: { properties: { a: { type: 'strin' } } } }, /: if.properties.a.type must be string/],
    [{ type: 'object', dependentRequired: { a: 'b' } }, /: dependentRequired.a must be a list of strings$/],
    [{ type: 'object', dependentSchemas: { a: 5 } }, /: dependentSchemas.a must be an object$/],
    [{ type: 'object', not: { pattern: '\\q' } }, /: not.pattern must be a regular expression$/],
    [{ type: 'object', dependencies: { a: 5 } }, /: dependencies.a must be an object$/],
    [{ type: 'object', examples: 5 }, /: examples must be a list of values$/],
    [
      { type: 'object', properties: { a: { $ref: '#/x-shared/a' } }, 'x-shared': { a: { type: 5 } } },
      /type must be string/,
    ],
    [
      { type: 'object', properties: { a: { $ref: '#/title' } }, title: 'a' },
      /properties.a.\$ref must refer to a schema$/,
    ],
    [{ anyOf: [{ $ref: '#' }] }, /checked: #\/\$defs\/root refers to itself without end$/],
    [
      {
        $ref: '#/$defs/a',
        $defs: { a: { $dynamicRef: '#t' }, b: { $dynamicAnchor: 't' }, c: { $id: 'c', $dynamicAnchor: 't' } },
      },
      /\$dynamicRef must refer to one schema/,
    ],
    [{ type: 'object', if: { not: { $ref: '#' } } }, /checked: # refers to itself without end$/],
    [{ type: 'object', dependentSchemas: { a: { $ref: '#' } } }, /checked: # refers to itself without end$/],
    [
      // Without the bound, reading it occupies the process for seconds.
      { $id: `https://example.com/${'x'.repeat(32_000)}/`, anyOf: Array.from({ length: 900 }, () => ({ $id: 'b' })) },
      /: \$id must be at most 2048 characters, with the \$id around it$/,
    ],
    [
      { $id: `https://example.com/${'x'.repeat(2_000)}/`, properties: { a: { $id: 'y'.repeat(100) } } },
      /: properties.a.\$id must be at most 2048 characters, with the \$id around it$/,
    ],
    [
      { $ref: '#/x-shared/a', 'x-shared': { a: { $id: `https://example.com/${'x'.repeat(2_048)}` } } },
      /a.\$id must be at most 2048 characters/,
    ],
    [{ type: 'object', description: 'x'.repeat(70_000) }, /at most 64 KiB/],
    [{ anyOf: Array.from({ length: 1_001 }, () => ({})) }, /^must have at most 1000 schemas in it$/],
  ])('a schema that cannot be used is refused with a plain message: %j', (schema, problem) => {
    expect(schemaProblem(schema)).toMatch(problem);
  });
});

describe('an answer', () => {
  it.each([
    ['{"city":"Rome","people":3}'],
    ['\n```json\n{"city":"Rome","people":3}\n```\n'],
    ['Let me look {that} up.\n\n{"city":"Rome","people":3}'],
  ])('an answer is the JSON in it: %j', async (content) => {
    expect(await readOutput(CITY, content)).toEqual({ output: { city: 'Rome', people: 3 } });
    expect(findJson(content)).toEqual({ output: { city: 'Rome', people: 3 } });
  });

  it.each([
    ['', 'output', /is not JSON/],
    ['Rome', 'output', /is not JSON/],
    ['{"city":"Ro', 'output', /is not JSON/],
    ['"Rome"', 'output', /expected object/],
    ['{"city":1}', 'output.city', /expected string/],
    ['{"city":"Rome","people":-1}', 'output.people', /0/],
    ['{"city":"Rome","x":1}', 'output', /x/],
  ])('an answer that does not match is described: %j', async (content, path, message) => {
    expect(await readOutput(CITY, content)).toEqual({ issues: [{ path, message: expect.stringMatching(message) }] });
  });

  it.each<[OutputSchema, unknown]>([
    [{ const: { a: [1] } }, { a: [1] }],
    [{ type: 'object', properties: { k: { enum: [{ a: 1 }, 'b'] } } }, { k: { a: 1 } }],
    [{ minLength: 5 }, 1],
    [{ type: 'object', properties: { constructor: { type: 'string' } } }, {}],
    [{ type: 'string', pattern: '^a\\-b$' }, 'a-b'],
    [{ $ref: '#/$defs/a', $defs: { a: { type: 'array', items: { $ref: '#/$defs/a' } } } }, [[], [[]]]],
    [{ type: 'object', not: { required: ['a'] } }, { b: 1 }],
    [CONDITIONAL, { kind: 'shop', door: 'x' }],
    [CONDITIONAL, { kind: 'home' }],
    [
      { type: 'object', dependentRequired: { a: ['b'] } },
      { a: 1, b: 1 },
    ],
    [{ type: 'object', properties: { a: {} }, unevaluatedProperties: false }, { a: 1 }],
  ])('an answer of the schema %j is %j', async (schema, output) => {
    expect(schemaProblem(schema)).toBeUndefined();
    expect(await readOutput(schema, JSON.stringify(output))).toEqual({ output });
  });

  it.each<[OutputSchema, unknown]>([
    [{ const: { a: 1 } }, { a: 2 }],
    [{ properties: { a: { type: 'string' } }, required: ['a'] }, { a: 5 }],
    [{ properties: { a: { type: 'string' } }, required: ['a'] }, {}],
    [{ type: 'object', required: ['a'] }, {}],
    [{ type: 'object', properties: { b: { type: 'string' } }, required: ['a'] }, { b: 'x' }],
    [{ type: 'object', anyOf: [{ required: ['a'] }, { required: ['b'] }] }, { c: 1 }],
    [{ type: 'object', required: ['constructor'] }, {}],
    [{ minLength: 5 }, 'a'],
    [{ pattern: '^a' }, 'b'],
    [{ items: { type: 'string' } }, [1]],
    [{ type: 'string', pattern: '^a\\-b$' }, 'b'],
    [{ type: 'object', not: { required: ['a'] } }, { a: 1 }],
    [CONDITIONAL, { kind: 'shop' }],
    [CONDITIONAL, { kind: 'home', door: 'x' }],
    [{ type: 'object', dependentRequired: { a: ['b'] } }, { a: 1 }],
    [{ type: 'object', dependentSchemas: { a: { required: ['b'] } } }, { a: 1 }],
    [{ type: 'object', properties: { a: {} }, unevaluatedProperties: false }, { b: 1 }],
  ])('an answer of the schema %j is not %j', async (schema, output) => {
    expect(schemaProblem(schema)).toBeUndefined();
    expect(await readOutput(schema, JSON.stringify(output))).toHaveProperty('issues');
  });

  describe('is checked by the rules of its draft', () => {
    const OLD = { $schema: 'http://json-schema.org/draft-07/schema#' };
    const LIST = { type: 'array', items: { $ref: '#' } } as const;
    const TREE = { $id: 'Tree', type: 'object', properties: { next: { $ref: 'Tree' } }, additionalProperties: false };
    it.each<[name: string, schema: OutputSchema, right: unknown, wrong: unknown]>([
      ['a root that refers to itself', LIST, [[], [[]]], [[1]]],
      ['$id', { anyOf: [TREE, { type: 'null' }] }, { next: { next: {} } }, { next: { nex: 1 } }],
      ['$anchor', { items: { $ref: '#n' }, $defs: { any: { $anchor: 'n', type: 'number' } } }, [1], ['1']],
      [
        '$dynamicRef',
        { items: { $dynamicRef: '#n' }, $defs: { n: { $dynamicAnchor: 'n', type: 'null' } } },
        [null],
        [1],
      ],
      ['$recursiveRef', { items: { $recursiveRef: '#' }, type: 'array' }, [[]], [1]],
      [
        'a pointer to a property',
        { properties: { a: { type: 'null' }, b: { $ref: '#/properties/a' } } },
        { b: null },
        { b: 1 },
      ],
      ['a pointer to another place', { $ref: '#/components/A~1B', components: { 'A/B': { type: 'null' } } }, null, 1],
      ['an encoded pointer', { $ref: '#/$defs/a%20b', $defs: { 'a b': { type: 'null' } } }, null, 1],
      ['keywords beside $ref', { $ref: '#/$defs/s', minLength: 2, $defs: { s: { type: 'string' } } }, 'ab', 'a'],
      [
        'keywords beside $ref in draft-07',
        { ...OLD, $ref: '#/definitions/s', minLength: 2, definitions: { s: {} } },
        'a',
        undefined,
      ],
      [
        '$id beside $ref in draft-07',
        {
          ...OLD,
          $id: 'http://a/b/',
          allOf: [{ $id: 'http://a/c/', $ref: 'foo' }],
          definitions: { c: { $id: 'http://a/c/foo', type: 'string' }, b: { $id: 'foo', type: 'number' } },
        },
        1,
        'a',
      ],
      ['items as a list', { ...OLD, items: [{ type: 'string' }], additionalItems: false }, ['a'], ['a', 1]],
      ['prefixItems', { prefixItems: [{ type: 'string' }], items: false }, ['a'], ['a', 1]],
      ['dependencies', { ...OLD, dependencies: { a: ['b'], type: { required: ['c'] } } }, { a: 1, b: 1 }, { type: 1 }],
      ['exclusiveMinimum: true', { minimum: 1, exclusiveMinimum: true }, 2, 1],
      ['exclusiveMinimum', { exclusiveMinimum: 1 }, 2, 1],
      [
        'patternProperties',
        { patternProperties: { '^x\\-': { type: 'null' } }, additionalProperties: false },
        { 'x-a': null },
        { x: null },
      ],
      ['propertyNames', { propertyNames: { maxLength: 2 } }, { ab: 1 }, { abc: 1 }],
      ['propertyNames: false', { propertyNames: false }, {}, { a: 1 }],
      ['contains', { contains: { const: 1 }, maxContains: 1 }, [1, 2], [1, 1]],
      ['unevaluatedItems', { prefixItems: [{}], unevaluatedItems: false }, [1], [1, 2]],
      ['boolean schemas', { properties: { a: true, b: false } }, { a: 1 }, { b: 1 }],
      ['oneOf', { oneOf: [{ minimum: 2 }, { maximum: 3 }] }, 1, 2.5],
      ['allOf', { allOf: [{ minimum: 2 }, { maximum: 3 }] }, 2, 1],
      ['a pattern with needless escapes', { not: { pattern: '^[\\w\\-]+\\_\\:{a}]$' } }, 'x', 'a-b_:{a}]'],
      ['an empty enum', { properties: { a: { enum: [] } } }, {}, { a: 1 }],
      ['unknown keywords with schemas', { type: 'null', 'x-a': { $id: 'a' }, 'x-b': { $id: 'a' } }, null, 1],
      [
        'two schemas with one $id',
        {
          anyOf: [
            { $id: 'a', type: 'null' },
            { $id: 'a', const: 1 },
          ],
        },
        1,
        2,
      ],
    ])('an answer is checked by the rules of the draft of its schema: %s', async (_, schema, right, wrong) => {
      expect(schemaProblem(schema)).toBeUndefined();
      expect(await readOutput(schema, JSON.stringify(right))).toEqual({ output: right });
      if (wrong !== undefined) expect(await readOutput(schema, JSON.stringify(wrong))).toHaveProperty('issues');
    });
  });

  it('a schema is sent in the plain form, with a reference for each schema that is named', () => {
    const inner = { type: 'object', properties: { a: { $ref: '#/properties/b' }, b: { $comment: 'x', type: 'null' } } };
    expect(toSentSchema({ $schema: 'https://json-schema.org/draft/2020-12/schema', $id: 'x', ...inner })).toEqual({
      type: 'object',
      properties: { a: { $ref: '#/$defs/b' }, b: { $ref: '#/$defs/b' } },
      $defs: { b: { type: 'null' } },
    });
    expect(toSentSchema({ type: 'array', items: { $ref: '#' } })).toEqual({
      ...{ type: 'object', required: ['value'], additionalProperties: false },
      properties: { value: { $ref: '#/$defs/root' } },
      $defs: { root: { type: 'array', items: { $ref: '#/$defs/root' } } },
    });
    expect(toSentSchema({ type: 'object', anyOf: [{ required: ['a'] }] })).toHaveProperty('properties.value.anyOf');
  });

  it('an answer that does not match what only one validator checks is described', async () => {
    const schema: OutputSchema = { type: 'object', properties: { a: { type: 'string', not: { const: 'x' } } } };
    const { issues } = { issues: [], ...(await readOutput(schema, '{"a":"x"}')) };
    expect(issues).toEqual([{ path: 'output', message: expect.stringMatching(/^does not match the schema: .*"not"/) }]);
  });

  it('an answer cannot occupy the process with a pattern that takes exponential time', async () => {
    const schema: OutputSchema = { type: 'object', properties: { a: { type: 'string', pattern: '^(\\w+\\s?)+$' } } };
    expect(schemaProblem(schema)).toBeUndefined();
    const { issues } = { issues: [], ...(await readOutput(schema, JSON.stringify({ a: `${'a'.repeat(64)}!` }))) };
    expect(issues).toEqual([{ path: 'output', message: 'takes too long, or is too deep, to check' }]);
  });

  it('a check that is interrupted leaves the schemas of other code intact: the main thread runs nothing of zod', async () => {
    // zod calls it for each schema that is made.
    const made = vi.fn();
    Object.assign(z.config(), { postProcessor: made });
    try {
      z.string();
      expect(made).toHaveBeenCalledOnce();
      expect(await readOutput(CITY, '{"city":1}')).toHaveProperty('issues');
      expect(await readOutput(CITY, '{"city":"Rome"}')).toHaveProperty('output');
      expect(await readOutput(...SLOW, BRIEF)).toHaveProperty('issues');
      expect(made).toHaveBeenCalledOnce();
    } finally {
      Object.assign(z.config(), { postProcessor: undefined });
    }
  });

  it.each<[string, OutputSchema, unknown]>([
    ['a pattern', { patternProperties: { '^(a+)+$': {} } }, { [`${'a'.repeat(64)}!`]: 1 }],
    [
      'references that branch',
      {
        type: 'object',
        properties: { a: { $ref: '#/$defs/d0' } },
        $defs: Object.fromEntries(
          Array.from({ length: 40 }, (_, n) => [
            `d${n}`,
            n === 39 ? {} : { allOf: [{ $ref: `#/$defs/d${n + 1}` }, { $ref: `#/$defs/d${n + 1}` }] },
          ]),
        ),
      },
      { a: 1 },
    ],
  ])('an answer whose check takes long blocks no other work, and no check after it: %s', async (_, schema, output) => {
    let isOver = false;
    let iterations = 0;
    const count = (): void => {
      iterations++;
      if (!isOver) setImmediate(count);
    };
    count();
    const found = await Promise.all(Array.from({ length: 3 }, () => readOutput(schema, JSON.stringify(output), BRIEF)));
    isOver = true;
    // Without a thread of its own, each check would be one iteration.
    expect(iterations).toBeGreaterThan(100);
    const issues = [{ path: 'output', message: 'takes too long, or is too deep, to check' }];
    expect(found).toEqual([{ issues }, { issues }, { issues }]);
    expect(await readOutput(...LONG)).toHaveProperty('output');
    expect(await readOutput(CITY, LONG[1].replace('city', 'town'))).toHaveProperty('issues');
  });

  it('a check that waits, or runs, ends with its turn, and the next one runs', async () => {
    const controllers = Array.from({ length: 3 }, () => new AbortController());
    const checks = controllers.map(({ signal }) => checkOutput(...SLOW, { owner: 'a', signal }));
    const ended = checks.map((check) => expect(check).rejects.toThrow('turn ended'));
    const next = checkOutput(...LONG, { owner: 'a', signal: NEVER });
    for (const controller of controllers.toReversed()) controller.abort(new Error('turn ended'));
    await Promise.all(ended);
    expect(await next).toEqual([]);
  });

  it('an owner whose checks take long delays one of another owner by one of them', async () => {
    const over = new AbortController();
    const own = Array.from({ length: 3 }, () => checkOutput(...SLOW, { owner: 'a', signal: over.signal, ...BRIEF }));
    const settled = Promise.allSettled(own);
    expect(await checkOutput(...SLOW, { owner: 'b', signal: NEVER, ...BRIEF })).toHaveLength(1);
    over.abort(new Error('turn ended'));
    expect((await settled).map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'rejected']);
  });

  it('answers of one owner that do not match and end at the same time are all described', async () => {
    const found = await Promise.all(Array.from({ length: 200 }, () => readOutput(CITY, '{"city":1}')));
    const issues = [{ path: 'output.city', message: expect.stringMatching(/expected string/) }];
    expect(found).toEqual(Array.from({ length: 200 }, () => ({ issues })));
  });

  it('an answer whose pattern is too large to run is described', async () => {
    const schema: OutputSchema = { type: 'string', pattern: `^(?:${'x?'.repeat(15_000)}){1,1000}$` };
    expect(schemaProblem(schema)).toBeUndefined();
    expect(await readOutput(schema, '"y"')).toHaveProperty('issues');
  });

  it('an answer that is too deep to check is described', async () => {
    const content = `${'{"a":'.repeat(20_000)}1${'}'.repeat(20_000)}`;
    const schema: OutputSchema = { type: 'object', additionalProperties: { $ref: '#' } };
    expect(await readOutput(schema, content)).toHaveProperty('issues');
  });
});
