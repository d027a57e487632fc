// An answer that is a member of an object is taken out of the object while it arrives, in pieces of any size.
import { expect, it } from 'vitest';
import { createUnwrapper } from '../../../../shared/conversations/turns/run/unwrap-answer.ts';

function unwrap(pieces: readonly string[]): string {
  const unwrapper = createUnwrapper();
  return pieces.map((piece) => unwrapper.add(piece)).join('') + unwrapper.end();
}

it.each([
  ['{"value":[1,{"a":2}]}', '[1,{"a":2}]'],
  ['{\n  "value":"} ` }"\n}', '"} ` }"\n'],
  ['```json\n{"value":5}\n```', '```json\n5\n```'],
  ['First this. {"value":{"value":1}}', 'First this. {"value":1}'],
  ['{"other":1}', '{"other":1}'],
  [`{${' '.repeat(2_000)}"other":1}`, `{${' '.repeat(2_000)}"other":1}`],
])('the answer is taken out of %j, in pieces of any size', (text, answer) => {
  for (let size = 1; size <= Math.min(text.length, 30); size++) {
    const pieces = Array.from({ length: Math.ceil(text.length / size) }, (_, n) =>
      text.slice(n * size, (n + 1) * size),
    );
    expect(unwrap(pieces)).toBe(answer);
  }
});

// Takes minutes if what is held back is read again with each piece.
it.each([
  ['{"value":[1,', 'before its end'],
  ['{', 'before it begins'],
])('white space without end after %j is passed on in linear time, %s', (beginning) => {
  const pieces = [beginning, ...Array.from({ length: 100_000 }, () => '       \n')];
  expect(unwrap(pieces).length).toBeGreaterThan(800_000 - 1);
});
