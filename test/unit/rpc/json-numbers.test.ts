// The numbers that JSON.parse rounds are found, with their positions in the text.
import { expect, it } from 'vitest';
import {
  findUnsafeNumbers,
  inspectJson,
  isExactNumber,
  isSafeNumber,
  replaceLiterals,
} from '../../../shared/rpc/json/json-numbers.ts';

it.each([
  ...['0', '-0', '1.50', '1e2', '1E+2', '-12.5e-3', '0.1', '0.30000000000000004', '5e-324', '1e300', '0e99999'],
  ...['9007199254740991', '9007199254740992', '9007199254740994', '1000000000000000000000', '123456789012345.6'],
])('the number %s is kept as it is', (literal) => expect(isExactNumber(literal)).toBe(true));

it.each([
  ...['9007199254740993', '-9007199254740993', '12345678901234567890', '1.0000000000000000001', '1e400', '-1e400'],
  ...['1e-400', '0.1000000000000000055511151231257827', '9007199254740993.0', `1${'0'.repeat(900)}`],
])('the number %s would lose digits', (literal) => expect(isExactNumber(literal)).toBe(false));

it.each([
  ['9007199254740991', true],
  ['9007199254740992', false],
  ['9007199254740994', false],
  ['1e300', true],
  ['-9007199254740996', false],
])('parsing keeps the number %s exact: %s', (literal, isSafe) => expect(isSafeNumber(literal)).toBe(isSafe));

it('the depth and the inexact numbers of a text are found, outside its strings', () => {
  const text = '{"a":[1,{"9007199254740993":"9007199254740993 \\" [["}], "b" : 9007199254740993 ,"c":1e400}';
  const { depth, inexact } = inspectJson(text);
  expect(depth).toBe(3);
  expect(inexact.map(({ start, end }) => text.slice(start, end))).toEqual(['9007199254740993', '1e400']);
  expect(JSON.parse(replaceLiterals(text, inexact, (literal) => `"${literal}"`))).toMatchObject({
    b: '9007199254740993',
    c: '1e400',
  });
  expect(inspectJson('9007199254740993').inexact).toEqual([{ start: 0, end: 16 }]);
});

it('the paths of the unsafe numbers of each call of a batch are reported', () => {
  const many = `[${'1e400,'.repeat(50)}1]`;
  const text = `[{"params":{"x":${many}}},{"id":1,"params":{"a":{"b\\"":[0,9007199254740993]}}}]`;
  const found = findUnsafeNumbers(text, 3);
  expect(found).toEqual([
    ['0', 'params', 'x', '0'],
    ['0', 'params', 'x', '1'],
    ['0', 'params', 'x', '2'],
    ['1', 'params', 'a', 'b"', '1'],
  ]);
});

it('a megabyte of digits is read at once', () => {
  const text = `[${'9'.repeat(500_000)},${'0.'}${'0'.repeat(500_000)}1]`;
  expect(inspectJson(text).inexact).toHaveLength(2);
});
