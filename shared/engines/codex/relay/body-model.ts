// Finds the model in the body of a request without parsing the whole body.

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
/** Maximum length of the key `"model"` in JSON: six characters for each escaped letter. */
const KEY_BYTES_MAX = 32;
const MODEL_BYTES_MAX = 1_024;

/**
 * Returns the string `model` of a JSON object. Undefined if there is none, or more than one, because parsers differ in
 * which of two members they use.
 */
export function modelIn(body: Buffer): string | undefined {
  let depth = 0;
  /** The last byte outside strings that is not white space. */
  let before = 0;
  let isModel = false;
  let model: string | undefined;
  for (let at = 0; at < body.length; at++) {
    const byte = body[at] ?? 0;
    if (byte <= 0x20) continue;
    if (byte === QUOTE) {
      const end = endOfString(body, at);
      if (end === -1) return undefined;
      if (depth === 1 && before !== CHAR[':']) {
        isModel = readString(body, at, end, KEY_BYTES_MAX) === 'model';
        if (isModel && model !== undefined) return undefined;
        if (isModel) model = '';
      } else if (depth === 1 && isModel) {
        model = readString(body, at, end, MODEL_BYTES_MAX) ?? '';
      }
      at = end;
    } else if (byte === CHAR['{'] || byte === CHAR['[']) {
      if (++depth === 1 && (byte !== CHAR['{'] || before !== 0)) return undefined;
    } else if (byte === CHAR['}'] || byte === CHAR[']']) depth--;
    before = byte;
  }
  return model === '' ? undefined : model;
}

const CHAR = { ':': 0x3a, '{': 0x7b, '}': 0x7d, '[': 0x5b, ']': 0x5d } as const;

/** Returns the position of the quote that ends the string, or -1. */
function endOfString(body: Buffer, start: number): number {
  for (let end = body.indexOf(QUOTE, start + 1); end !== -1; end = body.indexOf(QUOTE, end + 1)) {
    let escapes = 0;
    while (body[end - 1 - escapes] === BACKSLASH) escapes++;
    if (escapes % 2 === 0) return end;
  }
  return -1;
}

function readString(body: Buffer, start: number, end: number, bytesMax: number): string | undefined {
  // Includes the quotes.
  if (end - start + 1 > bytesMax) return undefined;
  try {
    return String(JSON.parse(body.toString('utf8', start, end + 1)));
  } catch {
    return undefined;
  }
}
