// JSON that stays on one line for every reader.

/**
 * Line ends of Unicode: JSON leaves them as they are, and some readers of event streams and logs split lines at them.
 */
const LINE_ENDS = /[\u0085\u2028\u2029]/g;

/** Escapes U+0085, U+2028 and U+2029, which can only stand inside the strings of JSON: the text means the same. */
export function escapeLineEnds(json: string): string {
  return json.replace(LINE_ENDS, (found) => `\\u${found.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
