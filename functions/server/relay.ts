// Relays the response of the companion to the caller as bytes; a stream is neither parsed nor encoded again. The
// request to the companion stays open after the client has disconnected, because Cloud Run does not end an instance
// with an open request.
import type { IncomingMessage, OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { auditCall } from '../../shared/audit.ts';
import type { Caller } from '../../shared/auth/keys/keys.ts';
import type { RpcError } from '../../shared/errors.ts';
import type { OpenExchange } from '../../shared/forward/exchange.ts';
import { brokenOff, toUnreachable } from '../../shared/forward/http-companion.ts';
import { EVENT_STREAM_TYPE, HEADERS } from '../../shared/protocol.ts';
import { createRememberedRefusals } from '../../shared/rate-limit/remembered-refusals.ts';
import { failureText } from '../../shared/rpc/answers.ts';
import type { Call } from '../../shared/rpc/envelope.ts';
import { escapeLineEnds } from '../../shared/rpc/json/line-ends.ts';
import type { Services } from '../../shared/services.ts';
import type { AnsweredRequest } from './answer-request.ts';
import { onHalfClose } from './half-close.ts';
import { errorHeaders, sendJsonText } from './http.ts';
import { taken } from './slow-reader.ts';

export interface RelayedRequest extends Omit<AnsweredRequest, 'forward' | 'headers'> {
  readonly call: Call;
  readonly body: Uint8Array;
}

export interface Relay {
  /** Whether calls of this caller are sent to the companion; false while a refusal of the companion is remembered. */
  accepts(caller: Caller): boolean;
  /**
   * Sends the request to the companion and relays its response. Resolves with false if the companion is of a version
   * without `/exchange`.
   */
  answer(res: ServerResponse, request: RelayedRequest): Promise<boolean>;
}

export interface RelayOptions {
  readonly leftMax?: number;
  readonly leftBytesMax?: number;
  readonly silentMsMax?: number;
}

/** Deadline in turn timeouts: a prompt waits for its session for at most one, then runs for another one. */
const TURNS_MAX = 2;
const MARGIN_MS = 60_000;
/**
 * Maximum number of requests that stay open after their clients have disconnected. Above it, the oldest is closed; its
 * turn continues.
 */
const LEFT_MAX = 256;
/** Maximum size of the bodies of these requests, which stay in memory but are no longer counted as in flight. */
const LEFT_BYTES_MAX = 32 << 20;
/**
 * A stream without headers or data for this long counts as broken: the companion sends the headers, and then comments,
 * more often.
 */
const SILENT_MS_MAX = 45_000;
const SILENT = 'the companion sent nothing for too long';
const NEWLINE = 0x0a;
/** Headers of the companion's response that are passed to the caller. */
const PASSED: ReadonlySet<string> = new Set([
  ...['content-type', 'content-length', 'cache-control', 'x-accel-buffering', 'x-content-type-options'],
  ...['www-authenticate', HEADERS.requestId, HEADERS.retryAfter].map((name) => name.toLowerCase()),
  ...[HEADERS.rateLimit, HEADERS.rateRemaining, HEADERS.rateReset].map((name) => name.toLowerCase()),
]);

/** Returns the relay, and `services`: the given ones with a limiter that remembers refusals of the companion. */
export function createRelay(
  given: Services,
  openExchange: OpenExchange,
  { leftMax = LEFT_MAX, leftBytesMax = LEFT_BYTES_MAX, silentMsMax = SILENT_MS_MAX }: RelayOptions = {},
): { readonly relay: Relay; readonly services: Services } {
  const { clock, config, limiter, log } = given;
  const refusals = createRememberedRefusals(limiter, clock);
  const timeoutMs = TURNS_MAX * config.turns.timeoutMs + MARGIN_MS;
  /** The sizes of the bodies. */
  const left = new Map<AbortController, number>();
  let leftBytes = 0;

  function keepLeft(ending: AbortController, bytes: number): void {
    left.set(ending, bytes);
    leftBytes += bytes;
    for (const oldest of left.keys()) {
      if (left.size <= leftMax && leftBytes <= leftBytesMax) break;
      dropLeft(oldest);
      oldest.abort();
    }
  }

  function dropLeft(ending: AbortController): void {
    leftBytes -= left.get(ending) ?? 0;
    left.delete(ending);
  }

  const relay: Relay = {
    accepts: ({ keyId, limits }) => !refusals.isRefused({ keyId, limits }),

    async answer(res, request) {
      const { call, timings, ...facts } = request;
      const startedMs = performance.now();
      const ending = new AbortController();
      const expiry = setTimeout(() => ending.abort(), timeoutMs);
      const isStream = request.transport === 'sse';
      const silent = isStream ? setTimeout(() => ending.abort(new Error(SILENT)), silentMsMax) : undefined;
      const onClose = (): void => {
        if (!res.writableFinished) keepLeft(ending, request.body.length);
      };
      res.once('close', onClose);
      let isBoundary = false;
      try {
        const opened = await openExchange({ ...facts, signal: ending.signal });
        clearTimeout(silent);
        if (opened === undefined) return false;
        const { response, report } = opened;
        if (report.refusal !== undefined) refusals.remember(request.caller, report.refusal);
        const endMs = performance.now();
        timings.add({ phase: 'model', startMs: endMs - report.modelMs, endMs });
        if (!res.destroyed) res.writeHead(response.statusCode ?? 200, passedHeaders(response, timings.overheadMs()));
        await pump(response, res, silentMsMax, (is) => {
          isBoundary = is;
        });
        if (!res.destroyed) res.end();
      } catch (thrown) {
        // If the client has disconnected, no response is sent, and the companion logs the call.
        if (!res.destroyed) {
          const error = toUnreachable(thrown);
          const durationMs = performance.now() - startedMs;
          const record = { method: call.method, outcome: error.reason, durationMs, error, details: {} };
          auditCall(log, record, { ...request, rate: undefined });
          fail(res, error, request, isBoundary);
        }
      } finally {
        clearTimeout(expiry);
        clearTimeout(silent);
        res.off('close', onClose);
        dropLeft(ending);
      }
      return true;
    },
  };
  return { relay, services: { ...given, limiter: refusals.limiter } };
}

function passedHeaders({ rawHeaders }: IncomingMessage, overheadMs: number): OutgoingHttpHeaders {
  const headers: OutgoingHttpHeaders = { [HEADERS.overheadMs]: overheadMs };
  for (let index = 0; index + 1 < rawHeaders.length; index += 2) {
    const name = rawHeaders[index] ?? '';
    if (PASSED.has(name.toLowerCase())) headers[name] = rawHeaders[index + 1];
  }
  return headers;
}

/**
 * Resolves when the response has ended; rejects if it ends before it is complete. `setBoundary` receives whether the
 * bytes so far are complete events of a stream, so that another event may follow.
 */
function pump(
  response: IncomingMessage,
  res: ServerResponse,
  silentMsMax: number,
  setBoundary: (is: boolean) => void,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const isStream = response.headers['content-type']?.startsWith(EVENT_STREAM_TYPE) === true;
    const silent = isStream ? setTimeout(() => response.destroy(new Error(SILENT)), silentMsMax) : undefined;
    let last = NEWLINE;
    let isBoundary = isStream;
    setBoundary(isBoundary);
    if (isStream) {
      onHalfClose(res, () => {
        if (isBoundary) res.write(': keep-alive\n\n');
      });
    }
    response.on('data', (chunk: Buffer) => {
      silent?.refresh();
      // If the client has disconnected, the rest is discarded.
      if (res.destroyed) return;
      if (isStream) {
        const end = chunk[chunk.length - 1];
        isBoundary = end === NEWLINE && (chunk.length > 1 ? chunk[chunk.length - 2] : last) === NEWLINE;
        last = end ?? last;
        setBoundary(isBoundary);
      }
      if (res.write(chunk)) return;
      response.pause();
      void taken(res).then(() => response.resume());
    });
    response.once('end', resolve);
    response.once('error', (error) => reject(brokenOff(error)));
    response.once('close', () => {
      clearTimeout(silent);
      reject(brokenOff());
    });
  });
}

/** A response that has started ends with the error as last event; within an event, its connection is closed. */
function fail(res: ServerResponse, error: RpcError, { call, requestId }: RelayedRequest, isBoundary: boolean): void {
  const text = failureText(call.id ?? null, error, requestId);
  if (!res.headersSent)
    sendJsonText(res, error.callStatus, text, { ...errorHeaders(error), [HEADERS.requestId]: requestId });
  else if (isBoundary) res.end(`data: ${escapeLineEnds(text)}\n\n`);
  else res.destroy();
}
