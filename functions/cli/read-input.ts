// Input of the command line, from files and stdin: at most as much of it is read as a gateway accepts.
import { createReadStream } from 'node:fs';
import { UsageError } from './usage-error.ts';

/** A request has at most 1 MiB. */
const REQUEST_BYTES_MAX = 1 << 20;

/** Throws UsageError. */
export async function readFileInput(file: string, bytesMax = REQUEST_BYTES_MAX): Promise<Buffer> {
  try {
    // One byte more shows that the file is too large; a device or a pipe has no size that could be read before.
    return await readInput(createReadStream(file, { end: bytesMax }), file, bytesMax);
  } catch (error) {
    if (error instanceof UsageError) throw error;
    const isMissing = error instanceof Error && 'code' in error && error.code === 'ENOENT';
    throw new UsageError(isMissing ? `${file} does not exist` : `cannot read ${file}`);
  }
}

/** `name`: of the input, in messages. Throws UsageError if it has more bytes than `bytesMax`. */
export async function readInput(
  input: AsyncIterable<Uint8Array>,
  name: string,
  bytesMax = REQUEST_BYTES_MAX,
): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const chunk of input) {
    chunks.push(chunk);
    sizeBytes += chunk.length;
    if (sizeBytes > bytesMax)
      throw new UsageError(`${name} is larger than ${bytesMax >> 10} KiB, the most that a gateway accepts`);
  }
  return Buffer.concat(chunks);
}
