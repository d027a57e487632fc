// Texts that providers refuse: a message that is only white space, in any role, and half of a surrogate pair. A
// conversation may come to hold both, since a model may answer with them or be stopped after them.

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
    const last = text.charCodeAt(text.length - 1);
    half = last >= 0xd800 && last <= 0xdbff ? text.slice(-1) : '';
    return (half === '' ? text : text.slice(0, -1)).toWellFormed();
  };
}
