// Estimates of the number of tokens in a text, before a provider counts them.

/** Bytes of UTF-8 per token: the English of most prompts has about 4. */
const BYTES_PER_TOKEN = 4;
/** Lower than the average, so that a text within the estimate does not exceed its budget. */
const BYTES_PER_TOKEN_MIN = 3;

/** What providers count for an image of usual size, rather too high. */
export const IMAGE_TOKENS = 1_600;

/** Words of languages with spaces are shorter; URLs may be longer. */
const WORD_CHARS_MAX = 40;
/** A run of at least this many characters with this share of digits and signs counts as code or an id. */
const CODE_CHARS_MIN = 12;
const CODE_SHARE = 0.2;

/** Estimated number of tokens of `sizeBytes` of text. */
export function estimateTokens(sizeBytes: number): number {
  return Math.ceil(sizeBytes / BYTES_PER_TOKEN);
}

/** Estimated upper bound of the tokens of `sizeBytes` of text, for texts that must fit into a budget. */
export function boundTokens(sizeBytes: number): number {
  return Math.ceil(sizeBytes / BYTES_PER_TOKEN_MIN);
}

/**
 * Estimated number of tokens of a text, rather too high. Words of letters: 3 characters per token. Runs without white
 * space that are no words (base64, hex, minified code): 1.5 characters per token. Characters of three bytes: 1.5 tokens
 * each. Other characters: 1 token each.
 */
export function estimateTextTokens(text: string): number {
  let tokens = 0;
  let run = 0;
  let signs = 0;
  const endRun = (): void => {
    const isCode = run > CODE_CHARS_MIN && signs > run * CODE_SHARE;
    tokens += isCode || run > WORD_CHARS_MAX ? run / 1.5 : run / BYTES_PER_TOKEN_MIN;
    run = 0;
    signs = 0;
  };
  for (let index = 0; index < text.length; index++) {
    const unit = text.charCodeAt(index);
    if (unit > 0x7f) tokens += unit > 0x7ff ? 1.5 : 1;
    else if (unit <= 0x20) {
      endRun();
      tokens += 0.2;
    } else {
      run++;
      const letter = unit | 0x20;
      if (letter < 0x61 || letter > 0x7a) signs++;
    }
  }
  endRun();
  return Math.ceil(tokens);
}
