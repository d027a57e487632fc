// What blank text is. Providers refuse a message that is only white space, in any role; a conversation may hold one,
// since a model may answer with one or be stopped after it.

/** Also control and zero-width characters, which some providers strip before they check and `\s` does not have. */
const VISIBLE = /[^\s\p{Cc}\u180e\u200b-\u200d\u2060]/u;

/** Whether a text has nothing in it that a model could read. */
export function isBlank(text: string): boolean {
  return !VISIBLE.test(text);
}
