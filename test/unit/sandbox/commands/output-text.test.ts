// A response contains all of a command's output where it fits, measured as JSON, and else a fair part of each stream.
import { expect, it } from 'vitest';
import { fitOutput } from '../../../../shared/sandbox/commands/output-text.ts';

const jsonBytes = (bytes: Buffer): number => Buffer.byteLength(JSON.stringify(bytes.toString('utf8'))) - 2;
const base64Bytes = (bytes: Buffer): number => bytes.toString('base64').length;

it.each([
  ['plain text', Buffer.from('a'.repeat(500))],
  ['control characters', Buffer.alloc(500, 1)],
  ['quotes and newlines', Buffer.from('"\n\\\t'.repeat(125))],
  ['characters of several bytes', Buffer.from('€😀é'.repeat(60))],
])('%s is cut at the bytes that it has as JSON, between characters', (_name, bytes) => {
  for (let max = 0; max < 520; max += 13) {
    const { stdout } = fitOutput(bytes, Buffer.alloc(0), max);
    expect(jsonBytes(stdout)).toBeLessThanOrEqual(max);
    expect(bytes.toString('utf8').startsWith(stdout.toString('utf8'))).toBe(true);
    if (stdout.length < bytes.length) expect(jsonBytes(stdout)).toBeGreaterThan(max - 8);
  }
});

it('bytes that are no text are measured with their base64', () => {
  const bytes = Buffer.alloc(1_000, 0xff);
  const { stdout } = fitOutput(bytes, Buffer.alloc(0), 2_000);
  expect(jsonBytes(stdout) + base64Bytes(stdout)).toBeLessThanOrEqual(2_000);
  expect(stdout.length).toBeGreaterThan(400);
});

it('each stream has half reserved, and gets the unused part of the other one', () => {
  const sizes = (out: number, err: number): readonly number[] => {
    const { stdout, stderr } = fitOutput(Buffer.alloc(out, 97), Buffer.alloc(err, 97), 100);
    return [stdout.length, stderr.length];
  };
  expect(sizes(500, 500)).toEqual([50, 50]);
  expect(sizes(500, 10)).toEqual([90, 10]);
  expect(sizes(10, 500)).toEqual([10, 90]);
  expect(sizes(40, 60)).toEqual([40, 60]);
});
