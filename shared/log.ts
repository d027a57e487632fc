// Structured logs: one JSON object per line for Cloud Logging, or readable lines on a terminal. The lines of one
// iteration of the event loop are written together, because a write per call would cost more than the call.
import { writeSync } from 'node:fs';
import type { Reason } from './errors.ts';

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

/**
 * Writes lines to a file descriptor (stdout by default). `format: 'pretty'` is for people, `json` for Cloud Logging
 * (https://cloud.google.com/logging/docs/structured-logging).
 */
export function createLogger(
  options: { readonly format: 'json' | 'pretty'; readonly write?: (text: string) => void } = { format: 'json' },
): Logger {
  const write = options.write ?? writeStdout;
  const render = options.format === 'json' ? renderJson : renderPretty;
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

/** Error -> fields that are safe to log: name, message and stack of the error and its causes, at most 4. */
export function errorFields(error: unknown): Fields {
  const chain: string[] = [];
  for (let cause: unknown = error; cause !== undefined && chain.length < 4; ) {
    chain.push(cause instanceof Error ? (cause.stack ?? `${cause.name}: ${cause.message}`) : String(cause));
    cause = cause instanceof Error ? cause.cause : undefined;
  }
  return { error: chain.join('\ncaused by: ') };
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
 * Characters that change how a terminal or an editor shows the text around them: C0 (except tab), DEL and C1 controls,
 * line and paragraph separators, bidirectional marks, embeddings and isolates, and the byte order mark. They are
 * escaped, because callers choose parts of the logged text.
 */
const UNSAFE = /[^\P{Cc}\t]|[\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/gu;

function escapeUnsafe(text: string): string {
  return text.replace(UNSAFE, (found) =>
    found === '\n' ? '\\n' : `\\u${found.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

function renderJson(severity: Severity, message: string, fields: Fields): string {
  // Concatenates JSON parts, which takes half the time of serialising one object, because every call logs a line.
  const rest = JSON.stringify(fields);
  const head = `{"severity":"${severity}","time":"${isoNow()}","message":${JSON.stringify(message)}`;
  // JSON.stringify has escaped C0. The others occur only inside strings, where an escape stands for the same character.
  return `${escapeUnsafe(rest === '{}' ? `${head}}` : `${head},${rest.slice(1)}`)}\n`;
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

function renderPretty(severity: Severity, message: string, fields: Fields): string {
  const time = new Date().toISOString().slice(11, 23);
  const rest = Object.entries(fields)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${escapeUnsafe(name)}=${toPretty(name, value)}`)
    .join(' ');
  return `${time} ${severity.padEnd(7)} ${escapeUnsafe(message)} ${rest}\n`;
}

/**
 * Stack traces stay on several lines, each with an indent that no log line has, so that their text cannot imitate a log
 * line.
 */
function toPretty(name: string, value: unknown): string {
  const text = typeof value === 'string' ? value : (JSON.stringify(value) ?? String(value));
  return name === 'error' ? text.split('\n').map(escapeUnsafe).join('\n      ') : escapeUnsafe(text);
}

function writeStdout(text: string): void {
  const bytes = Buffer.from(text);
  for (let offset = 0; offset < bytes.length; ) {
    try {
      offset += writeSync(1, bytes, offset);
    } catch (error) {
      // If the pipe is full (EAGAIN), the rest of the chunk is dropped so that the gateway does not block. A closed
      // pipe (EPIPE) has no reader.
      if ((error as NodeJS.ErrnoException).code === 'EINTR') continue;
      return;
    }
  }
}
