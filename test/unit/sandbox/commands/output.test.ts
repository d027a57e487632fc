// Collected output is complete and in order, and is offered piece by piece while it arrives.
import { Readable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { collect } from '../../../../shared/sandbox/commands/output.ts';
import { readAll } from '../../../../shared/sandbox-link/streams.ts';

/** A stream whose last bytes are read together with its end. */
function streamOf(...chunks: readonly string[]): Readable {
  const stream = new Readable({ read() {} });
  for (const chunk of chunks) stream.push(Buffer.from(chunk));
  stream.push(null);
  return stream;
}

const READERS = {
  'the collected output of a command': (stream: Readable, take: (bytes: Buffer) => Promise<void>) =>
    collect(stream, 1_000, take).then(({ bytes }) => bytes),
  'a stream of a link': (stream: Readable, take: (bytes: Buffer) => Promise<void>) =>
    readAll(stream, 1_000, new AbortController().signal, take),
};

for (const [name, read] of Object.entries(READERS)) {
  describe(name, () => {
    it('the output is complete when its last piece is taken', async () => {
      const stream = streamOf('a');
      const taken: string[] = [];
      const closed = Promise.withResolvers<void>();
      stream.once('close', closed.resolve);
      const bytes = await read(stream, async (piece) => {
        await closed.promise;
        taken.push(piece.toString());
      });
      expect([bytes.toString(), taken]).toEqual(['a', ['a']]);
    });
  });
}

describe('the collected output of a command', () => {
  it('the collected output of a command is read one piece after the other, also when the stream is resumed meanwhile', async () => {
    const stream = new Readable({ read() {} });
    const gate = Promise.withResolvers<void>();
    const taken: string[] = [];
    let running = 0;
    const collected = collect(stream, 1_000, async (piece) => {
      expect(++running).toBe(1);
      await gate.promise;
      running--;
      taken.push(piece.toString());
    });
    stream.push(Buffer.from('a'));
    await new Promise((resolve) => stream.once('pause', resolve));
    stream.resume();
    stream.push(Buffer.from('b'));
    stream.push(null);
    stream.once('close', gate.resolve);
    expect((await collected).bytes.toString()).toBe('ab');
    expect(taken).toEqual(['a', 'b']);
  });
});
