// Spans of the work of requests, as a port: what the gateway needs of a tracing library. Off unless the operator names
// a collector (OTEL_EXPORTER_OTLP_ENDPOINT); otlp-tracer.ts then loads OpenTelemetry.
import type { Trace } from './trace.ts';

/** Names of OpenTelemetry's semantic conventions: ids, names and numbers, no prompt, answer, argument or result. */
export type Attributes = Readonly<Record<string, string | number | readonly string[] | undefined>>;

export interface SpanOptions {
  readonly kind: 'server' | 'client' | 'internal';
  /** Default: the current trace; without one, the span begins a trace. */
  readonly parent?: Trace | undefined;
  /** Epoch milliseconds; default: now. */
  readonly startMs?: number;
  readonly attributes?: Attributes;
}

export interface Span {
  /** For work below the span. */
  readonly trace: Trace;
  set(attributes: Attributes): void;
  /** `error`: the class of the failure (`error.type`). `endMs`: epoch milliseconds, default now. */
  end(options?: { readonly error?: string | undefined; readonly endMs?: number }): void;
}

export interface Tracer {
  start(name: string, options: SpanOptions): Span;
  /** Sends the spans that have ended, within a bound. Never rejects. */
  close(): Promise<void>;
}
