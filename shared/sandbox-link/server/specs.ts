// Reads the specification and the input of a start from their streams, within a bound over all starts of a link.
import type { z } from 'zod';
import { RpcError } from '../../errors.ts';
import type { HandlerContext, Link, LinkStream } from '../link/link.ts';
import { readParams, SPEC_BYTES_MAX } from '../messages.ts';
import { readAll } from '../streams.ts';

/** Maximum bytes of specifications and input in memory for the starts of one link. */
const LINK_BYTES_MAX = 64 << 20;

export interface Specs {
  /** Reads and validates the JSON of a stream. Throws RpcError `invalid_params`, `payload_too_large`, `unavailable`. */
  read<T>(schema: z.ZodType<T>, stream: LinkStream, context: HandlerContext): Promise<T>;
  /** Reads all bytes of a stream. */
  readBytes(stream: LinkStream, bytesMax: number, context: HandlerContext): Promise<Buffer>;
}

/** One for all links. */
export function createSpecs(): Specs {
  const held = new WeakMap<Link, number>();

  async function readBytes(stream: LinkStream, bytesMax: number, { link, signal }: HandlerContext): Promise<Buffer> {
    let own = 0;
    const add = (bytes: number): void => {
      own += bytes;
      held.set(link, (held.get(link) ?? 0) + bytes);
    };
    try {
      return await readAll(stream, bytesMax, signal, (chunk) => {
        add(chunk.length);
        if ((held.get(link) ?? 0) <= LINK_BYTES_MAX) return;
        stream.destroy(new RpcError('unavailable', { message: 'Too many starts at a time', retryAfterMs: 1_000 }));
      });
    } finally {
      add(-own);
    }
  }

  return {
    readBytes,
    async read(schema, stream, context) {
      const bytes = await readBytes(stream, SPEC_BYTES_MAX, context);
      stream.end();
      return readParams(schema, parse(bytes));
    },
  };
}

function parse(bytes: Buffer): unknown {
  try {
    return JSON.parse(bytes.toString('utf8'));
  } catch {
    throw new RpcError('invalid_params', { message: 'a specification is not JSON' });
  }
}

/**
 * Runs `work` with a function that takes streams of the link. If `work` fails, the taken streams are reset before the
 * error is sent.
 */
export async function withStreams<R>(link: Link, work: (take: (id: number) => LinkStream) => Promise<R>): Promise<R> {
  const taken: LinkStream[] = [];
  try {
    return await work((id) => {
      const stream = link.takeStream(id);
      taken.push(stream);
      return stream;
    });
  } catch (error) {
    for (const stream of taken) stream.destroy();
    throw error;
  }
}
