// Keeps JSON on one line for every parser.

/**
 * Unicode line ends: JSON.stringify does not escape them, and some parsers of event streams and logs split lines at
 * them.
 */
const LINE_ENDS = /[\u0085\u2028\u2029]/g;

/** Escapes U+0085, U+2028 and U+2029. JSON allows them only inside strings, so the parsed value does not change. */
export function escapeLineEnds(json: string): string {
  return json.replace(LINE_ENDS, (found) => `\\u${found.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
