// MCP's Streamable HTTP transport through the SSRF-safe fetch. The SDK speaks the protocol; this bounds what a server may send and hands
// the SDK the global Response it expects.
import { StreamableHTTPClientTransport, type Transport } from '@modelcontextprotocol/client';
import { RpcError } from '../errors.ts';
import type { SafeFetch } from '../net/safe-fetch.ts';
import { FRAME_BYTES_MAX } from './mcp-stdio.ts';

export interface HttpTransport {
  readonly transport: Transport;
  /** Why this side ended it. */
  failure(): RpcError | undefined;
  /** Tells the server that its session is over, where it keeps one. Never throws. */
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
  // The SDK takes a stream that breaks for one that may be resumed; this one may not.
  const onTooLarge = (error: RpcError): void => {
    failure ??= error;
    void transport.close();
  };
  const transport = new StreamableHTTPClientTransport(new URL(url), {
    requestInit: { headers },
    // Judged redirects are followed below; the SDK has none left to see.
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
      const { promise, resolve } = Promise.withResolvers<void>();
      const timer = setTimeout(resolve, END_SESSION_MS);
      await Promise.race([transport.terminateSession().catch(() => {}), promise]);
      clearTimeout(timer);
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
  const isStream = /^\s*text\/event-stream/i.test(answer.headers.get('content-type') ?? '');
  return new Response(bounded(answer.body.getReader(), isStream, onTooLarge), { status, statusText, headers });
}

interface Reader {
  read(): Promise<{ readonly done: boolean; readonly value?: unknown }>;
  cancel(reason?: unknown): Promise<void>;
}

/** Blank lines, as event streams may write them. */
const EVENT_ENDS = ['\n\n', '\r\r', '\n\r\n'];

/** A body of at most FRAME_BYTES_MAX, or an event stream of which no event is longer. */
function bounded(reader: Reader, isStream: boolean, onTooLarge: (error: RpcError) => void): ReadableStream<Uint8Array> {
  let sizeBytes = 0;
  let tail = Buffer.alloc(0);
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const { done, value } = await reader.read();
        if (done) return controller.close();
        if (!(value instanceof Uint8Array)) return;
        sizeBytes += value.length;
        if (isStream) {
          const seen = Buffer.concat([tail, value]);
          const end = Math.max(...EVENT_ENDS.map((mark) => seen.lastIndexOf(mark)));
          if (end !== -1) sizeBytes = seen.length - end;
          tail = seen.subarray(-2);
        }
        if (sizeBytes > FRAME_BYTES_MAX) {
          const error = new RpcError('upstream_error', {
            message: 'the MCP server sent more than 4 MiB at once',
            retryable: false,
          });
          onTooLarge(error);
          await reader.cancel();
          throw error;
        }
        controller.enqueue(value);
      },
      cancel: (reason) => reader.cancel(reason),
    },
    { highWaterMark: 0 },
  );
}
