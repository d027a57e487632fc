// Structured logs: one JSON object per line as Cloud Logging reads it, or one readable line on a terminal. Lines are
// gathered during a turn of the event loop and written at once: a write per call would cost more than the call.
import { writeSync } from 'node:fs';

export type Severity = 'DEBUG' | 'INFO' | 'NOTICE' | 'WARNING' | 'ERROR' | 'CRITICAL';

/** Fields of a line, wire names. Never put a key, token, prompt, answer or body in here. */
export type Fields = Readonly<Record<string, unknown>>;

export interface Logger {
  log(severity: Severity, message: string, fields?: Fields): void;
  info(message: string, fields?: Fields): void;
  notice(message: string, fields?: Fields): void;
  warn(message: string, fields?: Fields): void;
  error(message: string, fields?: Fields): void;
  /** Writes what is gathered; call before the process ends. */
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

/** Error -> fields that are safe to log: name, message and stack of the chain of causes, at most 4 deep. */
export function errorFields(error: unknown): Fields {
  const chain: string[] = [];
  for (let cause: unknown = error; cause !== undefined && chain.length < 4; ) {
    chain.push(cause instanceof Error ? (cause.stack ?? `${cause.name}: ${cause.message}`) : String(cause));
    cause = cause instanceof Error ? cause.cause : undefined;
  }
  return { error: chain.join('\ncaused by: ') };
}

/**
 * What changes how a terminal or an editor shows the text around it: C0 (but for tab), DEL and C1 controls, line and
 * paragraph separators, bidirectional marks, embeddings and isolates, and the byte order mark. Callers choose some of
 * what is logged, so none is written as it is.
 */
const UNSAFE = /[^\P{Cc}\t]|[\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/gu;

function escapeUnsafe(text: string): string {
  return text.replace(UNSAFE, (found) =>
    found === '\n' ? '\\n' : `\\u${found.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

function renderJson(severity: Severity, message: string, fields: Fields): string {
  // A line per call: put together from parts, half the work of one object of everything.
  const rest = JSON.stringify(fields);
  const head = `{"severity":"${severity}","time":"${isoNow()}","message":${JSON.stringify(message)}`;
  // JSON has escaped C0; the others occur only inside its strings, where an escape means the same character.
  return `${escapeUnsafe(rest === '{}' ? `${head}}` : `${head},${rest.slice(1)}`)}\n`;
}

let isoMs = 0;
let iso = '';

/** The present time in ISO 8601; lines of the same millisecond share the text. */
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
 * A stack keeps its lines, each set off by an indent that no line of the log has: text within it cannot pass for a line
 * of its own.
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
      // A full pipe (EAGAIN) drops the rest of the chunk rather than blocking the gateway; a closed one (EPIPE) has no
      // reader.
      if ((error as NodeJS.ErrnoException).code === 'EINTR') continue;
      return;
    }
  }
}
