// The message of a provider's failure, read from JSON in the forms of providers and compatible servers, from a web page
// or from plain text: one bounded line, without anything that looks like a key.

import { isObject } from '../../json/json-object.ts';
import { shorten } from '../../messages/text.ts';

const CHARS_MAX = 300;
/** A shorter value is a word, such as the `x` of servers that ignore keys, and is part of other words. */
const SECRET_CHARS_MIN = 8;
/** Keys and tokens in the formats of providers. */
const KEYS = /\b(?:sk-|AIza|ya29\.|gh[pousr]_|Bearer |Basic )[\w.*~+/=-]*/;
/** Values after words such as `api_key`; the group is what stays. */
const NAMED_VALUES = /((?:api[_-]?key|token|password)["']?\s*[=:]\s*["']?)[\w.*-]{8,}/;
const SECRETS = new RegExp(`${KEYS.source}|${NAMED_VALUES.source}`, 'gi');

/** Some servers send the body of a failure as an event of the stream. */
const EVENT = /^(?:event: ?\w+\r?\n)?data: ?(\{[^\r\n]*)/;

export interface ProviderMessage {
  /** '' if there is no message. */
  readonly text: string;
  /** The provider's error codes: `error.code`, `error.type`, `error.status`; '' if there is none. */
  readonly code: string;
}

/** The message in a body. All `secrets` are removed from it. */
export function readProviderMessage(body: string, secrets: readonly string[] = []): ProviderMessage {
  const whole = body.trim();
  const text = EVENT.exec(whole)?.[1] ?? whole;
  if (text.startsWith('<')) return { text: clean(titleOf(text), secrets), code: '' };
  if (!/^[[{"]/.test(text)) return { text: clean(text, secrets), code: '' };
  try {
    const message = findMessage(JSON.parse(text));
    return { text: clean(message.text, secrets), code: message.code.slice(0, CHARS_MAX) };
  } catch {
    return { text: '', code: '' };
  }
}

/** One bounded line of a provider's text. */
export function clean(text: string, secrets: readonly string[] = []): string {
  let known = text;
  for (const secret of secrets) for (const form of formsOf(secret)) known = known.replaceAll(form, '[redacted]');
  const line = known
    .replace(/[\s\p{Cc}]+/gu, ' ')
    .replace(SECRETS, '$1[redacted]')
    .trim();
  return shorten(line, CHARS_MAX);
}

/** A secret as it is, and as part of an address or of JSON text. */
function formsOf(secret: string): readonly string[] {
  if (secret.length < SECRET_CHARS_MIN) return [];
  const inJson = JSON.stringify(secret).slice(1, -1);
  return [secret, encodeURIComponent(secret.toWellFormed()), inJson, inJson.replaceAll('/', '\\/')];
}

/**
 * `{error: {message, code}}`, `{error: "..."}`, `{message}`, `{detail}`, `{response: {error}}`, or a list of one of
 * them.
 */
function findMessage(value: unknown): ProviderMessage {
  if (typeof value === 'string') return { text: value, code: '' };
  if (Array.isArray(value)) return value.length === 0 ? { text: '', code: '' } : findMessage(value[0]);
  if (!isObject(value)) return { text: '', code: '' };
  const { error, response, errors, message, msg, detail, error_description: description } = value;
  const inner = [error, isObject(response) ? response.error : undefined, errors, message, msg, detail, description];
  const nested = inner.find((each) => each !== undefined && each !== null);
  const { text, code } = nested === undefined ? { text: '', code: '' } : findMessage(nested);
  const names = [value.code, value.type, value.status].filter((name) => typeof name === 'string');
  return { text, code: code === '' ? names.join(' ') : code };
}

function titleOf(html: string): string {
  const [, title = ''] = /<title[^>]*>([^<]*)/i.exec(html) ?? /<h1[^>]*>([^<]*)/i.exec(html) ?? [];
  return title;
}
