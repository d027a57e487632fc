// JSON-RPC over HTTP: one call, one answer, or the events of a stream before it. Credentials go in a header, never in a
// URL.

import * as z from 'zod/mini';
import { HEADERS } from '../../shared/protocol.ts';
import { connectionLost, Failure, fromWireError, toFailure, unexpected } from './failure.ts';
import type { Limits } from './limits.ts';

const Response = z.union([z.object({ result: z.unknown() }), z.object({ error: z.unknown() })]);
const Notification = z.object({ method: z.string(), params: z.unknown() });

export type OnNotification = (method: string, params: unknown) => void;

export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
  readonly timeoutMs?: number;
}

export interface Http {
  call(method: string, params: object, options?: CallOptions): Promise<unknown>;
  /** As `call`, over Server-Sent Events. */
  stream(method: string, params: object, onNotification: OnNotification, options?: CallOptions): Promise<unknown>;
  /** A webhook delivery, signed by the key. */
  deliver(body: object): Promise<void>;
}

const CALL_MS = 60_000;
/** A turn may take ten minutes; the gateway ends it, not we. */
const STREAM_MS = 15 * 60_000;
const EVENT_CHARS_MAX = 4 << 20;

export function createHttp(key: string, limits: Limits): Http {
  async function post(
    path: string,
    body: object,
    options: CallOptions,
    accept = 'application/json',
  ): Promise<globalThis.Response> {
    const timeout = AbortSignal.timeout(options.timeoutMs ?? CALL_MS);
    limits.spend();
    const response = await fetch(path, {
      method: 'POST',
      headers: { [HEADERS.key]: key, 'Content-Type': 'application/json', Accept: accept },
      body: JSON.stringify(body),
      signal: options.signal === undefined ? timeout : AbortSignal.any([options.signal, timeout]),
      cache: 'no-store',
      credentials: 'omit',
    });
    readLimits(response, limits);
    return response;
  }

  return {
    async call(method, params, options = {}) {
      try {
        const response = await post('/jsonrpc', toRequest(method, params), options);
        return toResult(await response.json(), limits);
      } catch (error) {
        throw toFailure(error);
      }
    },
    async stream(method, params, onNotification, options = {}) {
      try {
        const streaming = { timeoutMs: STREAM_MS, ...options };
        const response = await post('/jsonrpc', toRequest(method, params), streaming, 'text/event-stream');
        if (!(response.headers.get('content-type') ?? '').startsWith('text/event-stream')) {
          return toResult(await response.json(), limits);
        }
        for await (const data of readEvents(response.body)) {
          const message: unknown = JSON.parse(data);
          const notification = Notification.safeParse(message);
          if (!notification.success) return toResult(message, limits);
          onNotification(notification.data.method, notification.data.params);
        }
        throw connectionLost();
      } catch (error) {
        throw toFailure(error);
      }
    },
    async deliver(body) {
      try {
        const response = await post('/webhook', body, {});
        if (!response.ok) toResult(await response.json(), limits);
      } catch (error) {
        throw toFailure(error);
      }
    },
  };
}

/**
 * The result in a response, else throws its error as a Failure. A 429 is remembered, so that the page can count down.
 */
export function toResult(message: unknown, limits: Limits): unknown {
  const parsed = Response.safeParse(message);
  if (!parsed.success) throw unexpected();
  if ('result' in parsed.data) return parsed.data.result;
  const failure = fromWireError(parsed.data.error);
  if (failure.reason === 'rate_limited') limits.block(Date.now() + (failure.facts.retryAfterMs ?? 1_000));
  throw failure;
}

function toRequest(method: string, params: object): object {
  return { jsonrpc: '2.0', method, params, id: 1 };
}

function readLimits({ headers }: globalThis.Response, limits: Limits): void {
  const names = [HEADERS.rateLimit, HEADERS.rateRemaining, HEADERS.rateReset];
  const [limit, remaining, reset] = names.map((name) => headers.get(name));
  if (limit && remaining && reset) limits.observe(Number(limit), Number(remaining), Number(reset) * 1_000);
}

/**
 * The `data` of each event (https://html.spec.whatwg.org/multipage/server-sent-events.html); the gateway sends one line
 * each.
 */
async function* readEvents(body: ReadableStream<Uint8Array> | null): AsyncGenerator<string> {
  if (body === null) return;
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let text = '';
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      text += decoder.decode(value, { stream: true });
      if (text.length > EVENT_CHARS_MAX) throw new Failure({ reason: 'unexpected', message: 'An event is too large' });
      for (let end = text.indexOf('\n\n'); end !== -1; end = text.indexOf('\n\n')) {
        const line = text
          .slice(0, end)
          .split('\n')
          .find((part) => part.startsWith('data: '));
        text = text.slice(end + 2);
        if (line !== undefined) yield line.slice('data: '.length);
      }
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}
