// Estimates of the number of tokens in a text, before a provider counts them.

/** Bytes of UTF-8 per token: the English of most prompts has about 4. */
const BYTES_PER_TOKEN = 4;
/** Low on purpose, so that what an estimate lets into a budget does not exceed it. */
const BYTES_PER_TOKEN_MIN = 3;

/** No word of a language written with spaces is longer; a URL may be. */
const WORD_CHARS_MAX = 40;
/** A run of so many characters with so large a share of digits and signs is code or an id. */
const CODE_CHARS_MIN = 12;
const CODE_SHARE = 0.2;

/** About how many tokens `sizeBytes` of text are. */
export function estimateTokens(sizeBytes: number): number {
  return Math.ceil(sizeBytes / BYTES_PER_TOKEN);
}

/** At most about how many tokens `sizeBytes` of text are: for what must fit into a budget. */
export function boundTokens(sizeBytes: number): number {
  return Math.ceil(sizeBytes / BYTES_PER_TOKEN_MIN);
}

/**
 * About how many tokens a text is, rather too many: words of letters 3 characters a token, runs without white space
 * that are no words (base64, hex, minified code) 1.5, scripts of three bytes a character 1.5 tokens each, others 1.
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
