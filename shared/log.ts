// Structured logs: one JSON object per line for Cloud Logging, or readable lines on a terminal (pretty-log.ts). The
// lines of one iteration of the event loop are written together, because a write per call would cost more than the
// call.
import { writeSync } from 'node:fs';
import { codeOf, type Reason } from './errors.ts';
import { shorten } from './messages/text.ts';
import { escapeUnsafe, renderPretty } from './telemetry/pretty-log.ts';
import { currentTrace } from './telemetry/trace.ts';
import { VERSION } from './version.ts';

export type Severity = 'DEBUG' | 'INFO' | 'NOTICE' | 'WARNING' | 'ERROR' | 'CRITICAL';

/** Fields of a line, wire names. Must not contain a key, token, prompt, response or body. */
export type Fields = Readonly<Record<string, unknown>>;

export interface Logger {
  log(severity: Severity, message: string, fields?: Fields): void;
  info(message: string, fields?: Fields): void;
  notice(message: string, fields?: Fields): void;
  warn(message: string, fields?: Fields): void;
  error(message: string, fields?: Fields): void;
  /** Writes the buffered lines; call it before the process ends. */
  flush(): void;
}

const PENDING_CHARS_MAX = 1 << 16;
/** A message may quote what another service sent. */
const STACK_CHARS_MAX = 8_192;
const CAUSE_CHARS_MAX = 500;

export interface LoggerOptions {
  /** `pretty` is for people, `json` for Cloud Logging (https://cloud.google.com/logging/docs/structured-logging). */
  readonly format: 'json' | 'pretty';
  /** Default: to stdout. */
  readonly write?: (text: string) => void;
  /** The project in which Cloud Logging looks for the trace of a line. */
  readonly projectId?: string | undefined;
  /** Names the deployed service and its revision for Error Reporting. Default: this program and its version. */
  readonly service?: { readonly service: string; readonly version: string } | undefined;
}

export function createLogger(options: LoggerOptions = { format: 'json' }): Logger {
  const write = options.write ?? writeStdout;
  const render = options.format === 'json' ? createJsonRenderer(options) : renderPretty;
  let pending = '';
  let scheduled = false;
  const flush = (): void => {
    scheduled = false;
    if (pending === '') return;
    const text = pending;
    pending = '';
    write(text);
  };
  const log: Logger['log'] = (severity, message, fields = {}) => {
    pending += render(severity, message, fields);
    if (pending.length > PENDING_CHARS_MAX) flush();
    else if (!scheduled) {
      scheduled = true;
      setImmediate(flush);
    }
  };
  return {
    log,
    info: (message, fields) => log('INFO', message, fields),
    notice: (message, fields) => log('NOTICE', message, fields),
    warn: (message, fields) => log('WARNING', message, fields),
    error: (message, fields) => log('ERROR', message, fields),
    flush,
  };
}

/**
 * Error -> fields that are safe to log: name, message and stack of the error and its causes, at most 4, each with a
 * bounded length.
 */
export function errorFields(error: unknown): Fields {
  const chain: string[] = [];
  for (let cause: unknown = error; cause !== undefined && chain.length < 4; ) {
    const text = cause instanceof Error ? (cause.stack ?? `${cause.name}: ${cause.message}`) : String(cause);
    chain.push(shorten(text, STACK_CHARS_MAX));
    cause = cause instanceof Error ? cause.cause : undefined;
  }
  return { error: chain.join('\ncaused by: ') };
}

/** The message of the error below `error`, with a bounded length. */
export function causeOf({ cause }: Error): string | undefined {
  return cause instanceof Error ? shorten(cause.message, CAUSE_CHARS_MAX) : undefined;
}

/** Failures that the caller did not cause, and that the operator may have to investigate. */
const WARNED: ReadonlySet<Reason> = new Set(['unavailable', 'upstream_error', 'upstream_timeout']);

/**
 * The severity of the line about a refused or failed request. Only a defect of the gateway is an ERROR, for which
 * operators set alerts: no request, with or without a credential, raises one by what it contains.
 */
export function severityOf(outcome: Reason | 'ok'): Severity {
  if (outcome === 'ok') return 'INFO';
  return outcome === 'internal' ? 'ERROR' : WARNED.has(outcome) ? 'WARNING' : 'INFO';
}

/**
 * Error Reporting groups lines of severity ERROR by `stack_trace`, and by their message where they have this type
 * (https://cloud.google.com/error-reporting/docs/formatting-error-messages).
 */
const REPORTED = '"@type":"type.googleapis.com/google.devtools.clouderrorreporting.v1beta1.ReportedErrorEvent"';
const REPORTED_SEVERITIES: ReadonlySet<Severity> = new Set(['ERROR', 'CRITICAL']);

/** Concatenates JSON parts, which takes half the time of serialising one object, because every call logs a line. */
function createJsonRenderer({ projectId, service = { service: 'codex-gateway', version: VERSION } }: LoggerOptions) {
  const serviceContext = `,"serviceContext":${JSON.stringify(service)}`;
  const traces = projectId === undefined ? '' : `projects/${projectId}/traces/`;

  return (severity: Severity, message: string, fields: Fields): string => {
    const head = `{"severity":"${severity}","time":"${isoNow()}","message":${JSON.stringify(message)}`;
    const isReported = REPORTED_SEVERITIES.has(severity);
    const rest = JSON.stringify(isReported && 'error' in fields ? toReported(fields) : fields);
    const reported = isReported ? `${serviceContext}${'error' in fields ? '' : `,${REPORTED}`}` : '';
    const tail = rest === '{}' ? '}' : `,${rest.slice(1)}`;
    // JSON.stringify has escaped C0. The others occur only inside strings, where an escape stands for the same
    // character.
    return `${escapeUnsafe(`${head}${reported}${traceFields(traces)}${tail}`)}\n`;
  };
}

function toReported({ error, ...fields }: Fields): Fields {
  return { ...fields, stack_trace: error };
}

/** Joins the line with the request log of the platform and with the spans of its trace. */
function traceFields(traces: string): string {
  const trace = currentTrace();
  if (trace === undefined) return '';
  const { traceId, spanId, sampled } = trace;
  const prefix = 'logging.googleapis.com/';
  return `,"${prefix}trace":"${traces}${traceId}","${prefix}spanId":"${spanId}","${prefix}trace_sampled":${sampled}`;
}

let isoMs = 0;
let iso = '';

/** The current time in ISO 8601; formatted once per millisecond. */
function isoNow(): string {
  const nowMs = Date.now();
  if (nowMs !== isoMs) {
    isoMs = nowMs;
    iso = new Date(nowMs).toISOString();
  }
  return iso;
}

function writeStdout(text: string): void {
  const bytes = Buffer.from(text);
  for (let offset = 0; offset < bytes.length; ) {
    try {
      offset += writeSync(1, bytes, offset);
    } catch (error) {
      // If the pipe is full (EAGAIN), the rest of the chunk is dropped so that the gateway does not block. A closed
      // pipe (EPIPE) has no reader.
      if (codeOf(error) === 'EINTR') continue;
      return;
    }
  }
}
