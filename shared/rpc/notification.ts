// Notifications as JSON text. One that many readers get is serialised once and shared between their connections; one
// that is larger than a message of its transport may be is shortened, because nothing would answer it with an error.

/** Characters that a string of a shortened notification keeps. */
const KEPT_CHARS = 64 << 10;

/** Members of the params of a notification, serialised once for all its readers. */
export interface SharedParams {
  /**
   * JSON text of the members, without braces and without line ends of Unicode, as UTF-8. Never changed: connections
   * send this very buffer.
   */
  readonly bytes: Buffer;
  /** The same without the large ones, for a transport whose messages cannot carry `bytes`. */
  readonly brief: string;
}

/**
 * The text of a notification. Above `bytesMax` its long strings are cut, and its params contain `truncated: true`; if
 * that is not enough, only their short members stay. Throws what JSON.stringify throws.
 */
export function notificationText(method: string, params: object, bytesMax = Number.POSITIVE_INFINITY): string {
  const text = JSON.stringify({ jsonrpc: '2.0', method, params });
  if (fits(text, bytesMax)) return text;
  const cut = cutText({ jsonrpc: '2.0', method, params: { ...params, truncated: true } });
  if (fits(cut, bytesMax)) return cut;
  const short = Object.entries(params).filter(
    ([, value]) => typeof value !== 'object' && String(value).length <= 1_024,
  );
  return JSON.stringify({ jsonrpc: '2.0', method, params: { ...Object.fromEntries(short), truncated: true } });
}

/** The text before and after the shared members of a notification. */
export function aroundShared(method: string, params: object): { readonly head: string; readonly tail: string } {
  const own = JSON.stringify(params).slice(0, -1);
  const comma = own === '{' ? '' : ',';
  return { head: `{"jsonrpc":"2.0","method":${JSON.stringify(method)},"params":${own}${comma}`, tail: '}}' };
}

/** As JSON.stringify, with strings cut to KEPT_CHARS. */
export function cutText(value: object): string {
  return JSON.stringify(value, (_key, member: unknown) =>
    typeof member === 'string' && member.length > KEPT_CHARS ? member.slice(0, KEPT_CHARS).toWellFormed() : member,
  );
}

function fits(text: string, bytesMax: number): boolean {
  return text.length * 3 <= bytesMax || Buffer.byteLength(text) <= bytesMax;
}
