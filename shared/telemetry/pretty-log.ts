// Formats log lines for people: what happened first, then the rest as `name=value`.

/** The fields of the line of a call that its first words contain; the others follow. */
interface CallFields {
  readonly method: string;
  readonly outcome: string;
  readonly ms: number;
  readonly model?: unknown;
  readonly provider?: unknown;
  readonly input_tokens?: unknown;
  readonly output_tokens?: unknown;
}

/**
 * Characters that change how a terminal or an editor shows the text around them: C0 (except tab), DEL and C1 controls,
 * line and paragraph separators, bidirectional marks, embeddings and isolates, and the byte order mark. They are
 * escaped, because callers choose parts of the logged text.
 */
const UNSAFE = /[^\P{Cc}\t]|[\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/gu;
/** Nearly all lines are printable ASCII, for which this test takes a tenth of the time. */
const NOT_PRINTABLE_ASCII = /[^ -~]/;

export function escapeUnsafe(text: string): string {
  if (!NOT_PRINTABLE_ASCII.test(text)) return text;
  return text.replace(UNSAFE, (found) =>
    found === '\n' ? '\\n' : `\\u${found.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/**
 * `10:22:33.123 INFO    conversation.prompt ok in 1.23 s, openai/gpt-5.2, 14 + 21 tokens session_id=s ...` for a call;
 * every other line begins with its message.
 */
export function renderPretty(severity: string, message: string, fields: Readonly<Record<string, unknown>>): string {
  const time = new Date().toISOString().slice(11, 23);
  const { request_id, ...others } = fields;
  const [text, shown] = message === 'call' && isCall(others) ? describeCall(others) : [message, others];
  const rest = Object.entries({ ...shown, request_id })
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => ` ${escapeUnsafe(name)}=${toPretty(name, value)}`)
    .join('');
  return `${time} ${severity.padEnd(7)} ${escapeUnsafe(text)}${rest}\n`;
}

function isCall(fields: object): fields is CallFields {
  return 'method' in fields && 'outcome' in fields && 'ms' in fields && typeof fields.ms === 'number';
}

function describeCall(fields: CallFields): [text: string, rest: object] {
  const { method, outcome, ms, model, provider, input_tokens, output_tokens, ...others } = fields;
  // The name of a model begins with that of its provider.
  const rest = model === undefined ? { provider, ...others } : others;
  const parts = [`${method} ${outcome} in ${toDuration(ms)}`];
  if (model !== undefined) parts.push(String(model));
  if (input_tokens !== undefined) parts.push(`${String(input_tokens)} + ${String(output_tokens)} tokens`);
  return [parts.join(', '), rest];
}

function toDuration(ms: number): string {
  return ms < 1_000 ? `${Number(ms.toPrecision(3))} ms` : `${Number((ms / 1_000).toPrecision(3))} s`;
}

/**
 * Stack traces stay on several lines, each with an indent that no log line has, so that their text cannot imitate a log
 * line.
 */
function toPretty(name: string, value: unknown): string {
  if (name === 'error') return String(value).split('\n').map(escapeUnsafe).join('\n      ');
  if (name.endsWith('ms') && typeof value === 'number') return String(Math.round(value * 10) / 10);
  const isNumbers = typeof value === 'object' && value !== null && Object.values(value).every(isNumber);
  if (isNumbers && !Array.isArray(value)) {
    return Object.entries(value)
      .map(([key, number]) => `${escapeUnsafe(key)}:${Math.round(number * 10) / 10}`)
      .join(',');
  }
  const text = typeof value === 'string' ? value : (JSON.stringify(value) ?? String(value));
  return escapeUnsafe(typeof value === 'string' && /[\s"]/.test(text) ? JSON.stringify(text) : text);
}

function isNumber(value: unknown): value is number {
  return typeof value === 'number';
}
