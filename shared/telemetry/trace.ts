// The trace of a request: read from its headers, in effect for all work that the request starts, written to its log
// lines and passed on with its calls. The work of a request is linked by node's AsyncLocalStorage, so that no function
// has to pass a trace as an argument.
import { AsyncLocalStorage } from 'node:async_hooks';
import { randomBytes } from 'node:crypto';

/** W3C Trace Context (https://www.w3.org/TR/trace-context/). */
export interface Trace {
  /** 32 hex digits. */
  readonly traceId: string;
  /** 16 hex digits: the span of the caller, or the own one where spans are exported. */
  readonly spanId: string;
  readonly sampled: boolean;
}

/** Node's IncomingHttpHeaders. */
export type TraceHeaders = Readonly<Record<string, string | string[] | undefined>>;

const TRACEPARENT = /^([\da-f]{2})-([\da-f]{32})-([\da-f]{16})-([\da-f]{2})(-.*)?$/;
/**
 * Of Google Cloud: `TRACE_ID/SPAN_ID;o=OPTIONS`, the span as a decimal number
 * (https://cloud.google.com/trace/docs/trace-context).
 */
const CLOUD_TRACE = /^([\da-f]{32})(?:\/(\d{1,20}))?(?:;o=(\d))?$/i;
const ZEROS = /^0+$/;
const SAMPLED = 1;

const current = new AsyncLocalStorage<Trace>();

/** The trace of the request that started the running work. */
export function currentTrace(): Trace | undefined {
  return current.getStore();
}

/** Runs `work`, and all that it starts, in a trace; undefined: in the current one. */
export function inTrace<R>(trace: Trace | undefined, work: () => R): R {
  return trace === undefined ? work() : current.run(trace, work);
}

/** `listener`, called later by an event, runs in the current trace. */
export function bindTrace<Arguments extends unknown[]>(
  listener: (...args: Arguments) => void,
): (...args: Arguments) => void {
  return current.getStore() === undefined ? listener : AsyncLocalStorage.bind(listener);
}

/** Undefined without a valid header: a caller's mistake must not break its request. */
export function readTrace(headers: TraceHeaders): Trace | undefined {
  if (headers.traceparent === undefined && headers['x-cloud-trace-context'] === undefined) return undefined;
  return fromTraceparent(headers.traceparent) ?? fromCloudTrace(headers['x-cloud-trace-context']);
}

/** The value of the header `traceparent`; undefined: no trace. */
export function fromTraceparent(text: unknown): Trace | undefined {
  const [, version, traceId = '', spanId = '', flags = '', rest] = TRACEPARENT.exec(String(text ?? '')) ?? [];
  if (version === undefined || version === 'ff' || (version === '00' && rest !== undefined)) return undefined;
  if (ZEROS.test(traceId) || ZEROS.test(spanId)) return undefined;
  return { traceId, spanId, sampled: (Number.parseInt(flags, 16) & SAMPLED) !== 0 };
}

function fromCloudTrace(text: unknown): Trace | undefined {
  const [, traceId, span, option] = CLOUD_TRACE.exec(String(text ?? '')) ?? [];
  if (traceId === undefined || ZEROS.test(traceId)) return undefined;
  const number = BigInt.asUintN(64, BigInt(span ?? 0));
  const spanId = number === 0n ? randomBytes(8).toString('hex') : number.toString(16).padStart(16, '0');
  return { traceId: traceId.toLowerCase(), spanId, sampled: option === '1' };
}

function toTraceparent({ traceId, spanId, sampled }: Trace): string {
  return `00-${traceId}-${spanId}-0${sampled ? SAMPLED : 0}`;
}

/**
 * The header for a call that the current request makes; empty without a trace. It contains random ids only; what else
 * the caller sent (`tracestate`, `baggage`) is not passed on.
 */
export function traceHeaders(): { traceparent?: string } {
  const trace = currentTrace();
  return trace === undefined ? {} : { traceparent: toTraceparent(trace) };
}
