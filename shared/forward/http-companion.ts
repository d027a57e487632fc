// Forwarded calls over HTTP: `POST /jsonrpc` of the companion with an ID token of this service's own account, the
// answer read line by line.
import { deadline } from '../async.ts';
import { RpcError } from '../errors.ts';
import { PATHS } from '../protocol.ts';
import { traceHeaders } from '../telemetry/trace.ts';
import { CALL_CONTENT_TYPE, CALL_HEADER, encodeFacts } from './call.ts';
import type { CompanionService } from './companion-service.ts';
import type { Companion } from './forward.ts';

/** Longer than the timeout of every method of the companion. */
const TIMEOUT_MS = 15 * 60_000;
/** Longest line of an answer. */
const LINE_BYTES_MAX = 16 << 20;
const NEWLINE = 0x0a;

export interface CompanionAccess {
  readonly service: CompanionService;
  /** Value of the Authorization header. Throws RpcError `unavailable`. */
  readonly authorization: (signal: AbortSignal) => Promise<string>;
}

export function createHttpCompanion({ service, authorization }: CompanionAccess): Companion {
  return async function* send({ method, params, signal: callerSignal, ...facts }) {
    const signal = deadline(TIMEOUT_MS, callerSignal);
    const body = Buffer.from(JSON.stringify({ jsonrpc: '2.0', method, params, id: 1 }));
    const headers = {
      Authorization: await authorization(signal),
      'Content-Type': 'application/json',
      Accept: CALL_CONTENT_TYPE,
      ...traceHeaders(),
      [CALL_HEADER]: encodeFacts(facts),
    };
    try {
      const response = await service.post(PATHS.jsonrpc, headers, body, signal);
      if (response.statusCode !== 200) {
        response.resume();
        throw new Error(`the companion answered ${response.statusCode}`);
      }
      yield* readLines(response);
    } catch (error) {
      if (callerSignal.aborted) throw callerSignal.reason;
      throw toUnreachable(error);
    }
  };
}

/** It is unknown whether the method ran, so the caller decides whether to repeat it. Returns RpcErrors unchanged. */
export function toUnreachable(error: unknown): RpcError {
  if (error instanceof RpcError) return error;
  return new RpcError('unavailable', {
    message: 'the companion service cannot be reached',
    retryAfterMs: 1_000,
    cause: error,
  });
}

/** The error of an answer that ended before it was complete. */
export function brokenOff(cause?: unknown): RpcError {
  return new RpcError('unavailable', {
    message: 'the companion ended its response before it was complete',
    retryAfterMs: 1_000,
    cause,
  });
}

async function* readLines(response: AsyncIterable<Buffer>): AsyncGenerator<unknown, void, void> {
  let held: Buffer[] = [];
  let heldBytes = 0;
  for await (const chunk of response) {
    let start = 0;
    for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, start)) {
      const line = Buffer.concat([...held, chunk.subarray(start, end)]).toString('utf8');
      held = [];
      heldBytes = 0;
      start = end + 1;
      if (line !== '') yield JSON.parse(line);
    }
    held.push(chunk.subarray(start));
    heldBytes += chunk.length - start;
    if (heldBytes > LINE_BYTES_MAX) throw new Error('the answer of the companion has a line that is too long');
  }
}
