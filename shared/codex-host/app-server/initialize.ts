// Performs the handshake with a new `codex app-server`, before its streams are used for turns.
import type { Readable } from 'node:stream';
import { z } from 'zod';
import { VERSION } from '../../version.ts';
import type { Launched } from '../launcher.ts';
import { type InitializeParams, InitializeResult, UNWANTED } from './handshake.ts';

const ANSWER_BYTES_MAX = 1 << 20;
const NEWLINE = 0x0a;

const PARAMS: InitializeParams = {
  clientInfo: { name: 'codex-gateway', title: null, version: VERSION },
  capabilities: { experimentalApi: true, requestAttestation: false, optOutNotificationMethods: [...UNWANTED] },
};

const Answer = z.object({ id: z.literal(0), result: InitializeResult });

/** Sends `initialize` with the id 0, waits for the response and sends `initialized`. Throws if there is no response. */
export async function initialize({ stdin, stdout }: Launched, signal: AbortSignal): Promise<void> {
  stdin.write(`${JSON.stringify({ id: 0, method: 'initialize', params: PARAMS })}\n`);
  Answer.parse(JSON.parse(await readLine(stdout, signal)));
  stdin.write(`${JSON.stringify({ method: 'initialized' })}\n`);
}

/** Returns the first line. The bytes after it stay in the stream. */
async function readLine(stream: Readable, signal: AbortSignal): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  const { promise, resolve, reject } = Promise.withResolvers<string>();
  const ended = (): void => reject(new Error('the process ended'));
  const aborted = (): void => reject(signal.reason);
  const read = (): void => {
    for (let chunk: Buffer | null = stream.read(); chunk !== null; chunk = stream.read()) {
      const end = chunk.indexOf(NEWLINE);
      chunks.push(end === -1 ? chunk : chunk.subarray(0, end));
      length += chunk.length;
      if (length > ANSWER_BYTES_MAX) reject(new Error('the first line is too long'));
      if (end === -1) continue;
      stream.off('readable', read);
      stream.unshift(chunk.subarray(end + 1));
      resolve(Buffer.concat(chunks).toString());
      return;
    }
  };
  stream.on('readable', read).once('end', ended).once('close', ended);
  signal.addEventListener('abort', aborted, { once: true });
  try {
    return await promise;
  } finally {
    stream.off('readable', read).off('end', ended).off('close', ended);
    signal.removeEventListener('abort', aborted);
  }
}
