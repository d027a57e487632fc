// Blank texts and surrogate pairs. Providers refuse messages of white space only, and unpaired surrogates. A
// conversation may contain both, because a model may answer with them, or its answer may be cut after them.

/**
 * Excludes control and zero-width characters as well: `\s` does not match them, but some providers remove them before
 * the check.
 */
const VISIBLE = /[^\s\p{Cc}\u180e\u200b-\u200d\u2060]/u;

/** Whether a text has no visible character. */
export function isBlank(text: string): boolean {
  return !VISIBLE.test(text);
}

/**
 * For a text that is streamed in pieces: moves half of a surrogate pair at the end of a piece to the next piece. An
 * unpaired half becomes U+FFFD; at the end of the text it is left out.
 */
export function createPairJoiner(): (piece: string) => string {
  let half = '';
  return (piece) => {
    const text = half + piece;
    const end = pairBoundary(text, text.length);
    half = text.slice(end);
    return text.slice(0, end).toWellFormed();
  };
}

/** Splits a text into pieces of at most `unitsMax` (2 or more) UTF-16 units, without splitting a surrogate pair. */
export function* splitText(text: string, unitsMax: number): Generator<string, void, void> {
  for (let start = 0; start < text.length; ) {
    const end = start + unitsMax < text.length ? pairBoundary(text, start + unitsMax) : text.length;
    yield text.slice(start, end);
    start = end;
  }
}

/** The start of a text, at most `unitsMax` UTF-16 units, without splitting a surrogate pair. */
export function truncateText(text: string, unitsMax: number): string {
  return text.length <= unitsMax ? text : text.slice(0, pairBoundary(text, unitsMax));
}

/** The text, or its first `unitsMax` UTF-16 units with an ellipsis. */
export function shorten(text: string, unitsMax: number): string {
  return text.length > unitsMax ? `${text.slice(0, unitsMax).toWellFormed()}…` : text;
}

/** `end`, or `end - 1` if a surrogate pair would be split at `end`. */
function pairBoundary(text: string, end: number): number {
  const last = text.charCodeAt(end - 1);
  return last >= 0xd800 && last <= 0xdbff ? end - 1 : end;
}
