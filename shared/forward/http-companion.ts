// The companion over HTTP: `POST /jsonrpc` with an ID token of this service's own account, the answer read line by
// line.
import http, { type IncomingMessage } from 'node:http';
import https from 'node:https';
import { deadline } from '../async.ts';
import { RpcError } from '../errors.ts';
import { PATHS } from '../protocol.ts';
import { traceHeaders } from '../trace.ts';
import { CALL_CONTENT_TYPE, CALL_HEADER, encodeFacts } from './call.ts';
import type { Companion } from './forward.ts';

/** Longer than the timeout of every method of the companion. */
const TIMEOUT_MS = 15 * 60_000;
/** Longest line of an answer. */
const LINE_BYTES_MAX = 16 << 20;
const NEWLINE = 0x0a;

export interface HttpCompanionOptions {
  /** Base URL of the companion service. */
  readonly url: string;
  /** Value of the Authorization header. Throws RpcError `unavailable`. */
  readonly authorization: (signal: AbortSignal) => Promise<string>;
}

export function createHttpCompanion({ url, authorization }: HttpCompanionOptions): Companion {
  const target = new URL(PATHS.jsonrpc, url);
  const { request } = target.protocol === 'https:' ? https : http;
  const Agent = target.protocol === 'https:' ? https.Agent : http.Agent;
  const agent = new Agent({ keepAlive: true, maxSockets: 1_000, maxFreeSockets: 64 });

  return async function* send({ method, params, signal: callerSignal, ...facts }) {
    const signal = deadline(TIMEOUT_MS, callerSignal);
    const body = Buffer.from(JSON.stringify({ jsonrpc: '2.0', method, params, id: 1 }));
    const headers = {
      Authorization: await authorization(signal),
      'Content-Type': 'application/json',
      'Content-Length': body.length,
      Accept: CALL_CONTENT_TYPE,
      ...traceHeaders(),
      [CALL_HEADER]: encodeFacts(facts),
    };
    try {
      const response = await new Promise<IncomingMessage>((resolve, reject) => {
        request(target, { method: 'POST', agent, headers, signal }, resolve).on('error', reject).end(body);
      });
      if (response.statusCode !== 200) {
        response.resume();
        throw new Error(`the companion answered ${response.statusCode}`);
      }
      yield* readLines(response);
    } catch (error) {
      if (callerSignal.aborted) throw callerSignal.reason;
      if (error instanceof RpcError) throw error;
      // It is unknown whether the method ran, so the caller decides whether to repeat it.
      throw new RpcError('unavailable', {
        message: 'the companion service cannot be reached',
        retryAfterMs: 1_000,
        cause: error,
      });
    }
  };
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
