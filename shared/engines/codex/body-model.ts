// Finds the model that a request names, without parsing all of its body.

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
/** As long as `"model"` can be written: six characters for each letter. */
const KEY_BYTES_MAX = 32;
const MODEL_BYTES_MAX = 1_024;

/**
 * The string at `model` of a JSON object. Undefined where there is none, or more than one: parsers differ in which of
 * two members they take.
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

/** The position of the quote that ends the string; -1: none does. */
function endOfString(body: Buffer, start: number): number {
  for (let end = body.indexOf(QUOTE, start + 1); end !== -1; end = body.indexOf(QUOTE, end + 1)) {
    let escapes = 0;
    while (body[end - 1 - escapes] === BACKSLASH) escapes++;
    if (escapes % 2 === 0) return end;
  }
  return -1;
}

function readString(body: Buffer, start: number, end: number, bytesMax: number): string | undefined {
  // With its quotes.
  if (end - start + 1 > bytesMax) return undefined;
  try {
    return String(JSON.parse(body.toString('utf8', start, end + 1)));
  } catch {
    return undefined;
  }
}
