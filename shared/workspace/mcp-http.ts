// MCP's Streamable HTTP transport through the SSRF-safe fetch. The SDK speaks the protocol; this bounds what a server may send and hands
// the SDK the global Response it expects.
import { StreamableHTTPClientTransport, type Transport } from '@modelcontextprotocol/client';
import { RpcError } from '../errors.ts';
import type { SafeFetch } from '../net/safe-fetch.ts';
import { FRAME_BYTES_MAX } from './mcp-stdio.ts';

export interface HttpTransport {
  readonly transport: Transport;
  /** Tells the server that its session is over, where it keeps one. Never throws. */
  endSession(): Promise<void>;
}

const END_SESSION_MS = 2_000;
const NULL_BODY: ReadonlySet<number> = new Set([101, 204, 205, 304]);
const NEWLINE = 0x0a;

export function createHttpTransport(
  url: string,
  headers: Readonly<Record<string, string>>,
  safeFetch: SafeFetch,
): HttpTransport {
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
    fetch: (input, init) => send(safeFetch, input, init),
  });
  return {
    transport,
    async endSession() {
      const { promise, resolve } = Promise.withResolvers<void>();
      const timer = setTimeout(resolve, END_SESSION_MS);
      await Promise.race([transport.terminateSession().catch(() => {}), promise]);
      clearTimeout(timer);
    },
  };
}

async function send(safeFetch: SafeFetch, url: string | URL, init: RequestInit = {}): Promise<Response> {
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
  const isStream = answer.headers.get('content-type')?.startsWith('text/event-stream') ?? false;
  return new Response(bounded(answer.body.getReader(), isStream), { status, statusText, headers });
}

interface Reader {
  read(): Promise<{ readonly done: boolean; readonly value?: unknown }>;
  cancel(reason?: unknown): Promise<void>;
}

/** A body of at most FRAME_BYTES_MAX, or an event stream of which no line is longer. */
function bounded(reader: Reader, isStream: boolean): ReadableStream<Uint8Array> {
  let sizeBytes = 0;
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const { done, value } = await reader.read();
        if (done) return controller.close();
        if (!(value instanceof Uint8Array)) return;
        const lineEnd = isStream ? value.lastIndexOf(NEWLINE) : -1;
        sizeBytes = lineEnd === -1 ? sizeBytes + value.length : value.length - lineEnd - 1;
        if (sizeBytes > FRAME_BYTES_MAX) {
          await reader.cancel();
          throw new RpcError('upstream_error', {
            message: 'the server sent more than 4 MiB at once',
            retryable: false,
          });
        }
        controller.enqueue(value);
      },
      cancel: (reason) => reader.cancel(reason),
    },
    { highWaterMark: 0 },
  );
}
