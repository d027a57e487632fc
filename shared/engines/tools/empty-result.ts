// The text of an empty result of a tool.

/** Providers refuse a result that is only white space. */
export const EMPTY_RESULT = '(no output)';
