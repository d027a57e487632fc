// Inspects a JSON text without parsing it: the numbers that JavaScript cannot represent, the nesting depth, the memory
// of the parsed value. JSON.parse rounds such numbers silently, so that a forwarded value would differ from the
// received one. The results are valid only for text that JSON.parse accepts.

/** The position of a number literal: `start` inclusive, `end` exclusive. */
export interface NumberLiteral {
  readonly start: number;
  readonly end: number;
}

/**
 * A literal of at most this many characters without an exponent has at most 15 digits, which a double represents
 * exactly.
 */
const SHORT_CHARS = 15;
/** Estimated memory of an object or array, and of each member in addition to the characters of its text. */
const CONTAINER_BYTES = 64;
const MEMBER_BYTES = 40;
/** Longer literals count as inexact without a comparison: no double needs more digits, and comparing them is slow. */
const LITERAL_CHARS_MAX = 800;
const LITERAL = /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/;

const QUOTE = 34;
const COMMA = 44;
const MINUS = 45;
const ZERO = 48;
const NINE = 57;
const COLON = 58;
const OPEN_ARRAY = 91;
const BACKSLASH = 92;
const CLOSE_ARRAY = 93;
const OPEN_OBJECT = 123;
const CLOSE_OBJECT = 125;

/** Whether JSON.parse returns the exact value of the literal; notation does not matter: `1.50` and `1e2` are exact. */
export function isExactNumber(literal: string): boolean {
  if (literal.length <= SHORT_CHARS && !/[eE]/.test(literal)) return true;
  if (literal.length > LITERAL_CHARS_MAX) return false;
  const value = Number(literal);
  return Number.isFinite(value) && toDigits(literal) === toDigits(String(value));
}

/** Exact, and no integer of 2^53 or more: such an integer may have been rounded by the sender's own parser. */
export function isSafeNumber(literal: string): boolean {
  if (!isExactNumber(literal)) return false;
  return literal.length <= SHORT_CHARS || !/^-?\d+$/.test(literal) || Number.isSafeInteger(Number(literal));
}

export interface JsonFacts {
  /** Deepest nesting of arrays and objects, the outermost counting as 1. */
  readonly depth: number;
  /** The numbers that JSON.parse would round. */
  readonly inexact: readonly NumberLiteral[];
  /** Estimated memory of the parsed value in bytes: 1 MB of `{},{},` takes 30 MB. */
  readonly heapBytes: number;
}

/** Estimated memory of a value in bytes. */
export function toHeapBytes(textChars: number, containers: number, commas: number): number {
  return textChars + containers * CONTAINER_BYTES + commas * MEMBER_BYTES;
}

/** Inspects a JSON text without parsing it. */
export function inspectJson(text: string): JsonFacts {
  const inexact: NumberLiteral[] = [];
  let containers = 0;
  let commas = 0;
  let open = 0;
  let depth = 0;
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index);
    if (code === QUOTE) index = endOfString(text, index);
    else if (code === COMMA) commas++;
    else if (code === OPEN_OBJECT || code === OPEN_ARRAY) {
      containers++;
      depth = Math.max(depth, ++open);
    } else if (code === CLOSE_OBJECT || code === CLOSE_ARRAY) open--;
    else if (startsNumber(code)) {
      const end = endOfNumber(text, index);
      if (!isExactNumber(text.slice(index, end))) inexact.push({ start: index, end });
      index = end - 1;
    }
  }
  return { depth, inexact, heapBytes: toHeapBytes(text.length, containers, commas) };
}

/** The text with each literal replaced. `literals` are in the order of the text. */
export function replaceLiterals(
  text: string,
  literals: readonly NumberLiteral[],
  toReplacement: (literal: string) => string,
): string {
  let replaced = '';
  let from = 0;
  for (const { start, end } of literals) {
    replaced += text.slice(from, start) + toReplacement(text.slice(start, end));
    from = end;
  }
  return replaced + text.slice(from);
}

/**
 * The paths (keys and indexes) of the numbers that `isSafeNumber` rejects. At most `eachMax` per element of an
 * outermost array, so that one call of a batch cannot use up the bound of the others.
 */
export function findUnsafeNumbers(text: string, eachMax: number): string[][] {
  const found: string[][] = [];
  let element = 0;
  let ofElement = 0;
  const path: { isArray: boolean; name: string; index: number }[] = [];
  let lastString = '';
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index);
    const top = path.at(-1);
    if (code === QUOTE) {
      const end = endOfString(text, index);
      lastString = text.slice(index, end + 1);
      index = end;
    } else if (code === COLON && top !== undefined) top.name = String(JSON.parse(lastString));
    else if (code === COMMA && top !== undefined) top.index++;
    else if (code === OPEN_OBJECT || code === OPEN_ARRAY) {
      path.push({ isArray: code === OPEN_ARRAY, name: '', index: 0 });
    } else if (code === CLOSE_OBJECT || code === CLOSE_ARRAY) path.pop();
    else if (startsNumber(code)) {
      const end = endOfNumber(text, index);
      const [outermost] = path;
      const current = outermost?.isArray === true ? outermost.index : 0;
      if (current !== element) ofElement = 0;
      element = current;
      if (!isSafeNumber(text.slice(index, end)) && ofElement++ < eachMax) {
        found.push(path.map((step) => (step.isArray ? String(step.index) : step.name)));
      }
      index = end - 1;
    }
  }
  return found;
}

export function startsNumber(code: number): boolean {
  return code === MINUS || (code >= ZERO && code <= NINE);
}

/** Index after the literal that starts at `start`. */
export function endOfNumber(text: string, start: number): number {
  let end = start + 1;
  // Only digits, sign, point and exponent can precede the next separator.
  for (; end < text.length; end++) {
    const code = text.charCodeAt(end);
    if (code === COMMA || code === CLOSE_ARRAY || code === CLOSE_OBJECT || code <= 32) break;
  }
  return end;
}

/** Index of the closing quote of the string that begins at `start`. */
function endOfString(text: string, start: number): number {
  let index = start + 1;
  for (; index < text.length && text.charCodeAt(index) !== QUOTE; index++) {
    if (text.charCodeAt(index) === BACKSLASH) index++;
  }
  return index;
}

/**
 * Normal form: sign, digits without leading and trailing zeros, and the power of ten. Equal values have equal forms.
 */
function toDigits(literal: string): string {
  const [, sign = '', whole = '', fraction = '', exponent = '0'] = LITERAL.exec(literal) ?? [];
  const digits = whole + fraction;
  let start = 0;
  let end = digits.length;
  while (start < end && digits[start] === '0') start++;
  while (end > start && digits[end - 1] === '0') end--;
  if (start === end) return '0';
  return `${sign}${digits.slice(start, end)}e${Number(exponent) - fraction.length + digits.length - end}`;
}
