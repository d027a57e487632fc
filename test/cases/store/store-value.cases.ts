// A Store returns every value as it was written. A value that one adapter cannot store is refused by all.
import { describe, expect, it } from 'vitest';
import { freshRef, put, read, type StoreFixture } from '../../support/fixtures/database/store.ts';

const KEPT: readonly (readonly [string, object])[] = [
  ['unicode beyond the basic plane', { text: 'naïve \u{1F680}\u{1F9D1}‍\u{1F680} \u0000\n\t"\\ \u2028 中文' }],
  ['empty strings, maps and arrays', { text: '', map: {}, list: [], deep: { list: [{}] } }],
  ['half a megabyte of text', { text: 'abcé'.repeat(100_000) }],
  ['nested maps and arrays of maps', { a: { b: { c: [{ d: [1, 2] }, { d: [] }, 'x', null, true] } } }],
  ['numbers', { list: [0, -1, 1.5, -2.25e-10, 1e300, 2 ** 53 - 1, -(2 ** 53) + 1, 0.1 + 0.2, 5e-324, 2 ** 60] }],
  ['booleans and null', { yes: true, no: false, nothing: null }],
  [
    'odd field names',
    {
      'a.b': 1,
      'with space': 2,
      'é`"\\/': 3,
      '*': 4,
      _: 5,
      __: 6,
      constructor: 7,
      toString: 8,
      '0': 9,
      a: { 'b.c': 1 },
    },
  ],
  ['strings that look like something else', { a: '2026-01-01T00:00:00.000Z', b: '12', c: 'null', d: 'true' }],
];

const cycle: { self?: object } = {};
cycle.self = cycle;

const REFUSED: readonly (readonly [string, object])[] = [
  ['nested arrays', { list: [[1]] }],
  ['a reserved field name', { __x__: 1 }],
  ['a reserved field name further down', { a: [{ __y__: 1 }] }],
  ['a field named like the prototype', JSON.parse('{"a":{"__proto__":{"polluted":true}}}')],
  ['an empty field name', { '': 1 }],
  ['a field name that is too long', { ['x'.repeat(1501)]: 1 }],
  ['NaN', { n: Number.NaN }],
  ['infinity', { n: Number.POSITIVE_INFINITY }],
  ['a big integer', { n: 1n }],
  ['a date', { at: new Date(0) }],
  ['bytes', { bytes: new Uint8Array(1) }],
  ['a map of the language', { map: new Map() }],
  ['a function', { call: () => 1 }],
  ['a cycle', cycle],
  ['a document that is an array', []],
  ['more than a megabyte', { a: 'x'.repeat(500_000), b: 'é'.repeat(250_001) }],
  ['a million numbers', { list: Array.from({ length: 125_001 }, () => 1) }],
];

/** Run by `storeCases`. */
export function storeValueCases({ store }: StoreFixture): void {
  describe('values', () => {
    it.each(KEPT)('a stored value is read as it was written: %s', async (_, data) => {
      const ref = freshRef();
      await put(store(), ref, data);
      expect((await read(store(), ref)).data).toStrictEqual(data);
      const found = await store().lock([ref], ([snapshot]) => ({ writes: [], result: snapshot?.data }));
      expect(found).toStrictEqual(data);
    });

    it('undefined fields are dropped and undefined in arrays becomes null, as in JSON', async () => {
      const ref = freshRef();
      await put(store(), ref, { a: undefined, b: { c: undefined, d: 1 }, e: [undefined, 1] });
      expect((await read(store(), ref)).data).toStrictEqual({ b: { d: 1 }, e: [null, 1] });
    });

    it('stored values have one zero and no unpaired surrogates', async () => {
      const ref = freshRef();
      await put(store(), ref, { zero: -0, text: 'a\uD83Db\uDE00', list: ['\uD800'] });
      expect((await read(store(), ref)).data).toStrictEqual({ zero: 0, text: 'a\uFFFDb\uFFFD', list: ['\uFFFD'] });
    });

    it('stored values may have the documented number of nested levels', async () => {
      const ref = freshRef();
      const data = nested(19);
      await put(store(), ref, data);
      expect((await read(store(), ref)).data).toStrictEqual(data);
      await expect(put(store(), ref, nested(20))).rejects.toBeInstanceOf(TypeError);
    });

    it.each(REFUSED)('a commit with %s is refused, and writes nothing', async (_, data) => {
      const [ref, other] = [freshRef(), freshRef()];
      const commit = store().commit([
        { ref: other, data: { ok: true } },
        { ref, data },
      ]);
      await expect(commit).rejects.toBeInstanceOf(TypeError);
      expect((await store().get([ref, other])).map((snapshot) => snapshot.version)).toEqual([null, null]);
    });

    it('stored values are not changed by later changes to what was written', async () => {
      const ref = freshRef();
      const data = { list: [{ n: 1 }] };
      await put(store(), ref, data);
      data.list.push({ n: 2 });
      expect((await read(store(), ref)).data).toEqual({ list: [{ n: 1 }] });
    });
  });
}

function nested(depth: number): object {
  return depth === 1 ? { end: true } : { down: nested(depth - 1) };
}
