// A ring buffer keeps the last output of a terminal, and reading it in any steps returns every character once.
import fc from 'fast-check';
import { expect, it } from 'vitest';
import { createRingBuffer } from '../../../shared/terminals/ring-buffer.ts';

it('a ring buffer returns every character once and in order, in any pattern of reads', () => {
  const steps = fc.array(fc.oneof(fc.string({ minLength: 1, unit: 'grapheme' }), fc.nat(50)), { maxLength: 60 });
  fc.assert(
    fc.property(steps, (sequence) => {
      const ring = createRingBuffer(1 << 20);
      let written = '';
      let read = '';
      let seq = 0;
      for (const step of sequence) {
        if (typeof step === 'string') {
          ring.push(step);
          written += step;
        } else {
          const piece = ring.after(seq, step);
          expect(piece?.missed ?? false).toBe(false);
          read += piece?.data ?? '';
          seq = piece?.seq ?? seq;
        }
        expect(ring.bytesAfter(seq)).toBe(Buffer.byteLength(written) - Buffer.byteLength(read));
      }
      for (let piece = ring.after(seq, 10); piece !== undefined; piece = ring.after(seq, 10)) {
        read += piece.data;
        seq = piece.seq;
      }
      expect(read).toBe(written);
      expect(seq).toBe(ring.lastSeq);
    }),
  );
});

it('a ring buffer keeps the last bytes, and flags missing output to a reader of older ones', () => {
  const ring = createRingBuffer(10);
  for (const data of ['aaaa', 'bbbb', 'cccc', 'é']) ring.push(data);
  expect(ring.after(0, 100)).toEqual({ seq: 4, data: 'bbbbccccé', missed: true });
  expect(ring.after(1, 100)).toEqual({ seq: 4, data: 'bbbbccccé', missed: false });
  expect(ring.after(3, 100)).toEqual({ seq: 4, data: 'é', missed: false });
  expect(ring.after(4, 100)).toBeUndefined();
});

it('a ring buffer keeps a last piece that is larger than the buffer', () => {
  const ring = createRingBuffer(10);
  ring.push('x'.repeat(100));
  expect(ring.after(0, 1)).toMatchObject({ seq: 1, missed: false });
});

it('the buffer of a terminal drops its oldest pieces beyond 8,192', () => {
  const ring = createRingBuffer(100 << 10);
  for (let n = 0; n < 20_000; n++) ring.push('x');
  expect(ring.after(0, 1 << 20)).toMatchObject({ seq: 20_000, data: 'x'.repeat(8192), missed: true });
});
