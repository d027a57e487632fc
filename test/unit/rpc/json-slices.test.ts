// A value is serialised in slices to the same text as by JSON.stringify, and other work runs between them.
import { describe, expect, it } from 'vitest';
import { stringifyInSlices } from '../../../shared/rpc/json/json-slices.ts';

const LONG = 64 << 10;
const deep = (levels: number): unknown => (levels === 0 ? { a: [undefined] } : { in: [deep(levels - 1)] });

const VALUES: Readonly<Record<string, unknown>> = {
  nothing: null,
  'what JSON leaves out or replaces': {
    a: undefined,
    b: () => 1,
    c: Symbol('c'),
    d: Number.NaN,
    e: -0,
    f: [undefined],
  },
  'empty ones': { a: {}, b: [], c: '', d: [{}, []] },
  names: { '"\n': 1, ['__proto__']: 2, 2: 'second', 1: 'first' },
  'values with a form of their own': {
    at: new Date(0),
    url: new URL('http://a/'),
    bytes: Buffer.from('ab'),
    of: [new Map()],
  },
  'long texts': [
    '\u0001"\\é€'.repeat(LONG),
    `${'a'.repeat(LONG - 1)}😀${'b'.repeat(LONG)}`,
    '\ud800'.repeat(LONG * 2 + 1),
  ],
  'a long list': Array.from({ length: 2_500 }, (_, index) => (index % 3 === 0 ? undefined : { index, text: '€' })),
  'many members': Object.fromEntries(Array.from({ length: 8_000 }, (_, index) => [`m${index}`, [index]])),
  'deep ones': deep(40),
};

describe('JSON in slices of time', () => {
  for (const [name, value] of Object.entries(VALUES)) {
    it(`the sliced text is that of JSON.stringify: ${name}`, async () => {
      expect(await stringifyInSlices(value)).toBe(JSON.stringify(value));
    });
  }

  it('the sliced text of undefined is null, and failures are those of JSON.stringify', async () => {
    expect(await stringifyInSlices(undefined)).toBe('null');
    await expect(stringifyInSlices({ a: [1n] })).rejects.toThrow(TypeError);
    const cycle: Record<string, unknown> = {};
    cycle.in = { cycle };
    await expect(stringifyInSlices(cycle)).rejects.toThrow(TypeError);
  });

  it('other work runs between the slices', async () => {
    let turns = 0;
    const count = (): void => {
      turns++;
      timer = setImmediate(count);
    };
    let timer = setImmediate(count);
    await stringifyInSlices({ text: '\u0001'.repeat(8 << 20) });
    clearImmediate(timer);
    expect(turns).toBeGreaterThan(1);
  });
});
