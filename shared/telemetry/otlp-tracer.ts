// The Tracer of OpenTelemetry: sends spans to a collector with OTLP over HTTP, as JSON, in batches in the background.
// Imported only where a collector is configured. It registers nothing globally, so the Google SDKs create no spans.
import { type Context, ROOT_CONTEXT, SpanKind, SpanStatusCode, trace as spans, TraceFlags } from '@opentelemetry/api';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { BatchSpanProcessor, TracerProvider } from '@opentelemetry/sdk-trace';
import { settledWithin } from '../async.ts';
import { VERSION } from '../version.ts';
import { currentTrace, type Trace } from './trace.ts';
import type { Span, Tracer } from './tracer.ts';

export interface OtlpOptions {
  /** Base URL of the collector; spans are sent to `/v1/traces` below it. */
  readonly endpoint: string;
  /** `service.name` of the spans. */
  readonly serviceName: string;
}

const KINDS = { server: SpanKind.SERVER, client: SpanKind.CLIENT, internal: SpanKind.INTERNAL };
/** Spans that wait for the collector; further ones are dropped. */
const QUEUE_MAX = 2_048;
const BATCH_MAX = 512;
/** A provider chooses some values: the ids of tool calls, and the name of the model that answered. */
const VALUE_CHARS_MAX = 256;
const SEND_EVERY_MS = 2_000;
const SEND_TIMEOUT_MS = 5_000;
/** Part of the second that an ending process has to close its connections. */
const CLOSE_MS = 700;

/**
 * The exporter reads the other variables of the specification itself, `OTEL_EXPORTER_OTLP_HEADERS` among them
 * (https://opentelemetry.io/docs/specs/otel/protocol/exporter/). A caller's `sampled` flag is kept; a request without a
 * trace is sampled.
 */
export function createOtlpTracer({ endpoint, serviceName }: OtlpOptions): Tracer {
  const exporter = new OTLPTraceExporter({
    url: `${endpoint.replace(/\/$/, '')}/v1/traces`,
    timeoutMillis: SEND_TIMEOUT_MS,
  });
  const processor = new BatchSpanProcessor({
    exporter,
    maxQueueSize: QUEUE_MAX,
    maxExportBatchSize: BATCH_MAX,
    scheduledDelayMillis: SEND_EVERY_MS,
    exportTimeoutMillis: SEND_TIMEOUT_MS,
  });
  const resource = resourceFromAttributes({ 'service.name': serviceName, 'service.version': VERSION });
  const provider = new TracerProvider({
    resource,
    spanProcessors: [processor],
    spanLimits: { attributeValueLengthLimit: VALUE_CHARS_MAX },
  });
  const tracer = provider.getTracer('codex-gateway', VERSION);

  return {
    start(name, { kind, parent = currentTrace(), startMs, attributes = {} }): Span {
      const options = {
        kind: KINDS[kind],
        attributes: toAttributes(attributes),
        ...(startMs && { startTime: startMs }),
      };
      const span = tracer.startSpan(name, options, toContext(parent));
      const { traceId, spanId, traceFlags } = span.spanContext();
      return {
        trace: { traceId, spanId, sampled: (traceFlags & TraceFlags.SAMPLED) !== 0 },
        set: (more) => void span.setAttributes(toAttributes(more)),
        end({ error, endMs } = {}) {
          if (error !== undefined) {
            span.setAttribute('error.type', error);
            span.setStatus({ code: SpanStatusCode.ERROR });
          }
          span.end(endMs);
        },
      };
    },
    async close() {
      await settledWithin(CLOSE_MS, provider.shutdown());
    },
  };
}

function toContext(parent: Trace | undefined): Context {
  if (parent === undefined) return ROOT_CONTEXT;
  const { traceId, spanId, sampled } = parent;
  const traceFlags = sampled ? TraceFlags.SAMPLED : TraceFlags.NONE;
  return spans.setSpanContext(ROOT_CONTEXT, { traceId, spanId, traceFlags, isRemote: true });
}

function toAttributes(attributes: Parameters<Span['set']>[0]): Record<string, string | number | string[]> {
  const found: Record<string, string | number | string[]> = {};
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined) found[name] = typeof value === 'object' ? [...value] : value;
  }
  return found;
}
