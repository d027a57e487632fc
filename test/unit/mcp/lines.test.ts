// The reader of lines finds the same lines for every split of the bytes, and none above the bound.
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { createLineReader } from '../../../shared/mcp/protocol/transports/lines.ts';

function read(chunks: readonly Buffer[], bytesMax: number): string[] {
  const lines: string[] = [];
  const reader = createLineReader(bytesMax);
  for (const chunk of chunks) reader.push(chunk, (line) => lines.push(line.toString('latin1')));
  return lines;
}

it('the same lines are found for every split of the bytes', () => {
  const text = fc.array(fc.stringMatching(/^[a-z]{0,40}$/), { maxLength: 30 });
  fc.assert(
    fc.property(text, fc.array(fc.nat(60), { maxLength: 50 }), (lines, cuts) => {
      const bytes = Buffer.from(lines.map((line) => `${line}\n`).join(''));
      const chunks: Buffer[] = [];
      let at = 0;
      for (const cut of cuts) {
        chunks.push(bytes.subarray(at, at + cut));
        at += cut;
      }
      chunks.push(bytes.subarray(at));
      expect(read(chunks, 40)).toEqual(lines);
    }),
  );
});

it.each([1, 7, 64])('a line over the bound is refused in pieces of %i bytes', (size) => {
  const pieces = Array.from({ length: Math.ceil(41 / size) }, () => Buffer.alloc(size, 'x'));
  expect(() => read(pieces, 40)).toThrow(RangeError);
  expect(() => read([Buffer.from(`${'x'.repeat(41)}\n`)], 40)).toThrow(RangeError);
});

it('four million single bytes are read in linear time', () => {
  const reader = createLineReader(4 << 20);
  const piece = Buffer.from('x');
  const lines: number[] = [];
  // Quadratic time would exceed the timeout of the test.
  for (let n = 0; n < 4 << 20; n++) reader.push(piece, () => {});
  reader.push(Buffer.from('\n'), (line) => void lines.push(line.length));
  expect(lines).toEqual([4 << 20]);
});
