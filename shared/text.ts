// Blank texts and surrogate pairs. Providers refuse a message that is only white space, in any role, and half of a
// surrogate pair. A conversation may come to hold both, since a model may answer with them or be stopped after them.

/** Also control and zero-width characters, which some providers strip before they check and `\s` does not have. */
const VISIBLE = /[^\s\p{Cc}\u180e\u200b-\u200d\u2060]/u;

/** Whether a text has nothing in it that a model could read. */
export function isBlank(text: string): boolean {
  return !VISIBLE.test(text);
}

/**
 * For a text that comes in pieces: returns each without the half of a surrogate pair at its end, which the next piece
 * completes. A half that stays alone becomes U+FFFD, or is left out at the end of the text.
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

/** All of a text in pieces of at most `unitsMax` (2 or more) UTF-16 units, without splitting a surrogate pair. */
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

/** `end`, or one unit before it where a surrogate pair begins there. */
function pairBoundary(text: string, end: number): number {
  const last = text.charCodeAt(end - 1);
  return last >= 0xd800 && last <= 0xdbff ? end - 1 : end;
}
