// Notifications as JSON text. A notification to many connections is serialised once and shared. One that exceeds the
// message limit of its transport is shortened, because a notification has no response that could carry an error.

/** Most characters of a string in a shortened notification. */
const KEPT_CHARS = 64 << 10;

/** Params of a notification, serialised once for all connections. */
export interface SharedParams {
  /**
   * JSON text of the members in UTF-8, without the braces; Unicode line ends are escaped. Never modified, because
   * connections send this buffer without a copy.
   */
  readonly bytes: Buffer;
  /** The same without the large members, for a transport whose message limit `bytes` exceeds. */
  readonly brief: string;
}

/**
 * The text of a notification. Above `bytesMax` long strings are cut and the params contain `truncated: true`; if the
 * text is still too large, the long members are removed. Throws the errors of JSON.stringify.
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

/** Like JSON.stringify, with strings cut to KEPT_CHARS. */
export function cutText(value: object): string {
  return JSON.stringify(value, (_key, member: unknown) =>
    typeof member === 'string' && member.length > KEPT_CHARS ? member.slice(0, KEPT_CHARS).toWellFormed() : member,
  );
}

function fits(text: string, bytesMax: number): boolean {
  return text.length * 3 <= bytesMax || Buffer.byteLength(text) <= bytesMax;
}
