// Frames of a terminal's output are decoded wherever the stream is split, and invalid frames are refused.
import { expect, it } from 'vitest';
import { createFrameReader, encodeFrame, type TerminalFrame } from '../../../shared/sandbox-link/terminal-frames.ts';

const FRAMES: readonly TerminalFrame[] = [
  { seq: 1, data: 'a', missed: false },
  { seq: 2 ** 40, data: 'ä€😀'.repeat(5_000), missed: true },
  { seq: 3, data: '', missed: false },
  { exitCode: 137 },
];

it.each([1, 2, 10, 11, 12, 1_000, 1 << 20])('frames are read from chunks of %i bytes', (size) => {
  const bytes = Buffer.concat(FRAMES.map(encodeFrame));
  const read = createFrameReader();
  const found: TerminalFrame[] = [];
  for (let index = 0; index < bytes.length; index += size) found.push(...read(bytes.subarray(index, index + size)));
  expect(found).toEqual(FRAMES);
});

it.each([
  ['an unknown kind', Buffer.concat([Buffer.from([9]), Buffer.alloc(10)])],
  ['an exit with a text', Buffer.concat([Buffer.from([3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]), Buffer.from('x')])],
  ['an exit code that none has', Buffer.from([3, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0])],
  ['a length beyond the bound', Buffer.from([1, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 0])],
])('an invalid frame is refused: %s', (_, bytes) => {
  expect(() => createFrameReader()(bytes)).toThrow(/a frame of/);
});
