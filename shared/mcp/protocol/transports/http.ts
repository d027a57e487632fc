// MCP's Streamable HTTP transport over the SSRF-safe fetch. The SDK implements the protocol. This file limits the size
// of what a server may send, marks numbers that would lose digits (exact-json.ts), and returns the global Response
// that the SDK expects.

import { StreamableHTTPClientTransport, type Transport } from '@modelcontextprotocol/client';
import { settledWithin } from '../../../async.ts';
import { RpcError } from '../../../errors.ts';
import type { SafeFetch } from '../../../net/safe-fetch.ts';
import { markNumbers, mayLoseDigits } from '../../../rpc/json/exact-json.ts';
import { createLineReader } from './lines.ts';
import { FRAME_BYTES_MAX, isTooHeavy, TOO_HEAVY, TOO_LARGE } from './message-bounds.ts';

export interface HttpTransport {
  readonly transport: Transport;
  /** Why the gateway closed the connection. */
  failure(): RpcError | undefined;
  /** Requests the server to delete the session, if it has one. Never throws. */
  endSession(): Promise<void>;
}

const END_SESSION_MS = 2_000;
const NULL_BODY: ReadonlySet<number> = new Set([101, 204, 205, 304]);

export function createHttpTransport(
  url: string,
  headers: Readonly<Record<string, string>>,
  safeFetch: SafeFetch,
): HttpTransport {
  let failure: RpcError | undefined;
  // The SDK resumes a stream that breaks. A stream that exceeded the bound must not be resumed, so the transport is
  // closed.
  const onTooLarge = (error: RpcError): void => {
    failure ??= error;
    void transport.close();
  };
  const transport = new StreamableHTTPClientTransport(new URL(url), {
    requestInit: { headers },
    // The safe fetch follows allowed redirects itself.
    redirectPolicy: 'follow',
    reconnectionOptions: {
      initialReconnectionDelay: 1_000,
      maxReconnectionDelay: 10_000,
      reconnectionDelayGrowFactor: 2,
      maxRetries: 3,
    },
    fetch: (input, init) => send(safeFetch, onTooLarge, input, init),
  });
  return {
    transport,
    failure: () => failure,
    async endSession() {
      await settledWithin(END_SESSION_MS, transport.terminateSession());
    },
  };
}

async function send(
  safeFetch: SafeFetch,
  onTooLarge: (error: RpcError) => void,
  url: string | URL,
  init: RequestInit = {},
): Promise<Response> {
  const { method = 'GET', body, signal } = init;
  const answer = await safeFetch(url, {
    method,
    headers: [...new Headers(init.headers)],
    ...(typeof body === 'string' && { body }),
    ...(signal && { signal }),
  });
  const { status, statusText } = answer;
  const headers = [...answer.headers];
  if (answer.body === null || NULL_BODY.has(status)) return new Response(null, { status, statusText, headers });
  const type = answer.headers.get('content-type') ?? '';
  const isStream = /^\s*text\/event-stream/i.test(type);
  const marker = isStream ? createStreamMarker() : createBodyMarker(type);
  return new Response(bounded(answer.body.getReader(), marker, onTooLarge), { status, statusText, headers });
}

interface Reader {
  read(): Promise<{ readonly done: boolean; readonly value?: unknown }>;
  cancel(reason?: unknown): Promise<void>;
}

/** Transforms a body piece by piece and marks its numbers. Throws RangeError when it exceeds FRAME_BYTES_MAX. */
interface Marker {
  push(bytes: Uint8Array): Uint8Array;
  end(): Uint8Array;
}

const NOTHING = new Uint8Array();
const CARRIAGE_RETURN = 13;
const NEWLINE = Buffer.from('\n');

/** For a JSON body: returns all of it at the end. */
function createBodyMarker(type: string): Marker {
  const pieces: Uint8Array[] = [];
  let sizeBytes = 0;
  return {
    push(bytes) {
      sizeBytes += bytes.length;
      if (sizeBytes > FRAME_BYTES_MAX) throw new RangeError('the body is too large');
      pieces.push(bytes);
      return NOTHING;
    },
    end() {
      const whole = Buffer.concat(pieces, sizeBytes);
      return /[/+]json\b/i.test(type) ? mark(whole) : whole;
    },
  };
}

/**
 * For an event stream: returns it line by line. No event may exceed the bound. JSON has line breaks only between
 * tokens, so a number is never split over two lines.
 */
function createStreamMarker(): Marker {
  const lines = createLineReader(FRAME_BYTES_MAX);
  let eventBytes = 0;
  return {
    push(bytes) {
      const out: Buffer[] = [];
      lines.push(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength), (line) => {
        const isBlank = line.length === 0 || (line.length === 1 && line[0] === CARRIAGE_RETURN);
        eventBytes = isBlank ? 0 : eventBytes + line.length;
        if (eventBytes > FRAME_BYTES_MAX) throw new RangeError('the event is too large');
        out.push(line.subarray(0, 5).toString('latin1') === 'data:' ? mark(line) : Buffer.from(line), NEWLINE);
      });
      return Buffer.concat(out);
    },
    end: () => NOTHING,
  };
}

/** Returns a copy, because the line reader reuses its buffer. */
function mark(bytes: Buffer): Buffer {
  const characters = bytes.toString('latin1');
  if (isTooHeavy(characters)) throw new RangeError(TOO_HEAVY);
  return mayLoseDigits(characters) ? Buffer.from(markNumbers(bytes.toString('utf8'))) : Buffer.from(bytes);
}

function bounded(reader: Reader, marker: Marker, onTooLarge: (error: RpcError) => void): ReadableStream<Uint8Array> {
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        for (let isSent = false; !isSent; ) {
          const { done, value } = await reader.read();
          let out: Uint8Array;
          try {
            out = done ? marker.end() : value instanceof Uint8Array ? marker.push(value) : NOTHING;
          } catch (cause) {
            const message = cause instanceof RangeError && cause.message === TOO_HEAVY ? TOO_HEAVY : TOO_LARGE;
            const error = new RpcError('upstream_error', { message, retryable: false, cause });
            onTooLarge(error);
            await reader.cancel();
            throw error;
          }
          if (out.length > 0) controller.enqueue(out);
          if (done) controller.close();
          isSent = done || out.length > 0;
        }
      },
      cancel: (reason) => reader.cancel(reason),
    },
    { highWaterMark: 0 },
  );
}
