// Validates request bytes, once, for every transport: UTF-8, JSON syntax, depth, duplicate keys, `__proto__`, unpaired
// surrogates. V8's JSON.parse checks the syntax; a scan of the text checks the properties that JSON.parse accepts.
import { RpcError } from '../errors.ts';
import {
  endOfNumber,
  findUnsafeNumbers,
  inspectJson,
  isSafeNumber,
  startsNumber,
  toHeapBytes,
} from './json/json-numbers.ts';

/** Most bytes of a request body or WebSocket message. */
export const BODY_BYTES_MAX = 1 << 20;
/** Deepest nesting of arrays and objects, the outermost counting as 1. */
export const DEPTH_MAX = 64;

/** Bodies with more brackets than this are measured before they are parsed. */
const BRACKETS_MEASURED = 50_000;

/** Most numbers that the errors of one request name. */
const UNSAFE_MAX = 20;

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * Parses strict JSON from bytes. Throws RpcError `parse_error` for invalid UTF-8 or syntax, and `invalid_request` for
 * valid JSON that is not accepted: nesting deeper than DEPTH_MAX, a duplicate key in one object (two parsers could read
 * two different requests), `__proto__` as a key (prototype pollution), a string with an unpaired surrogate (it cannot
 * be stored and read back unchanged).
 */
export function parseJson(bytes: Uint8Array): unknown {
  return parse(bytes).value;
}

/**
 * Like `parseJson`, for a body that is stored as raw text: there an unpaired surrogate is an escape of six characters,
 * which is stored and read back unchanged.
 */
export function parseKeptJson(bytes: Uint8Array): unknown {
  return parse(bytes, true).value;
}

/**
 * Like `parseJson`. Also returns the paths of numbers that JavaScript would round and of integers beyond 2^53, at most
 * UNSAFE_MAX, and an estimate of the memory of the value.
 */
export function parseRequest(bytes: Uint8Array): {
  readonly value: unknown;
  readonly unsafeNumbers: readonly (readonly string[])[];
  readonly heapBytes: number;
} {
  const { value, text, found } = parse(bytes);
  const { isSafe, containers, commas } = found;
  return {
    value,
    unsafeNumbers: isSafe ? [] : findUnsafeNumbers(text, UNSAFE_MAX),
    heapBytes: toHeapBytes(text.length, containers, commas),
  };
}

/**
 * Estimates the memory of the parsed value of a body with more than BRACKETS_MEASURED brackets, without parsing it: 1
 * MB of `{},` holds 350,000 objects, and V8 blocks the event loop for 0.1 s to collect them. Undefined for any other
 * body, and for one that is nested too deeply.
 */
export function measureHeavy(bytes: Uint8Array): number | undefined {
  if (bytes.length <= BRACKETS_MEASURED) return undefined;
  let brackets = 0;
  // By index: an iterator takes ten times as long.
  for (let index = 0; index < bytes.length; index++) {
    const byte = bytes[index];
    if (byte === OPEN_ARRAY || byte === OPEN_OBJECT) brackets++;
  }
  if (brackets <= BRACKETS_MEASURED) return undefined;
  const { heapBytes, depth } = inspectJson(decode(bytes));
  return depth > DEPTH_MAX ? undefined : heapBytes;
}

interface Scan {
  /** False when the text contains a number that `isSafeNumber` rejects. */
  readonly isSafe: boolean;
  readonly containers: number;
  readonly commas: number;
}

function parse(bytes: Uint8Array, unpaired = false): { value: unknown; text: string; found: Scan } {
  const text = decode(bytes);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new RpcError('parse_error', { data: { detail: syntaxDetail(error, text) } });
  }
  return { value, text, found: scan(text, unpaired) };
}

function decode(bytes: Uint8Array): string {
  try {
    return decoder.decode(bytes);
  } catch {
    throw new RpcError('parse_error', { data: { detail: isUtf16(bytes) ? UTF_16 : 'the body is not valid UTF-8' } });
  }
}

const UTF_16 = 'the body is UTF-16 (it begins with its byte order mark); send UTF-8';

function isUtf16([first, second]: Uint8Array): boolean {
  return (first === 0xff && second === 0xfe) || (first === 0xfe && second === 0xff);
}

/** Returns the position of the error without the content: V8's message quotes the body, which may contain secrets. */
function syntaxDetail(error: unknown, text: string): string {
  if (text.trim() === '') return 'the body is empty';
  if (text.startsWith('\ufeff')) return 'the body begins with a byte order mark (BOM); send JSON without one';
  // Anchored at the end: V8's message may quote the body, which may contain the word "position".
  const position =
    error instanceof Error ? /position (\d+)(?: \(line \d+ column \d+\))?$/.exec(error.message)?.[1] : undefined;
  return position === undefined ? 'the body is not valid JSON' : `the body is not valid JSON at position ${position}`;
}

const QUOTE = 34;
const COMMA = 44;
const OPEN_ARRAY = 91;
const BACKSLASH = 92;
const CLOSE_ARRAY = 93;
const OPEN_OBJECT = 123;
const CLOSE_OBJECT = 125;
const NO_KEYS = 0;

/** Scans text that JSON.parse has accepted. `unpaired`: allows unpaired surrogates. */
function scan(text: string, unpaired: boolean): Scan {
  let isSafe = true;
  let containers = 0;
  let commas = 0;
  // One entry per open container: the keys so far, NO_KEYS before the first key, or null for an array. NO_KEYS saves
  // 350,000 sets for 1 MB of empty objects.
  const open: (Set<string> | typeof NO_KEYS | null)[] = [];
  let expectsKey = false;
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index);
    switch (code) {
      case QUOTE: {
        const end = endOfString(text, index, unpaired);
        if (expectsKey) {
          open[open.length - 1] = addKey(open.at(-1), text.slice(index, end + 1));
          expectsKey = false;
        }
        index = end;
        break;
      }
      case OPEN_OBJECT:
      case OPEN_ARRAY: {
        const isObject = code === OPEN_OBJECT;
        containers++;
        if (open.push(isObject ? NO_KEYS : null) > DEPTH_MAX) {
          throw refused(`nesting is deeper than ${DEPTH_MAX}`);
        }
        expectsKey = isObject;
        break;
      }
      case CLOSE_OBJECT:
      case CLOSE_ARRAY:
        open.pop();
        expectsKey = false;
        break;
      case COMMA:
        commas++;
        expectsKey = (open.at(-1) ?? null) !== null;
        break;
      default:
        if (startsNumber(code)) {
          const end = endOfNumber(text, index);
          isSafe &&= isSafeNumber(text.slice(index, end));
          index = end - 1;
        }
    }
  }
  return { isSafe, containers, commas };
}

/** Index of the closing quote of the string that opens at `start`. */
function endOfString(text: string, start: number, unpaired: boolean): number {
  let hasSurrogateEscape = false;
  let index = start + 1;
  for (; text.charCodeAt(index) !== QUOTE; index++) {
    if (text.charCodeAt(index) !== BACKSLASH) continue;
    index++;
    const isUnicodeEscape = text[index] === 'u';
    if (isUnicodeEscape && (text[index + 1] === 'd' || text[index + 1] === 'D')) hasSurrogateEscape = true;
  }
  if (hasSurrogateEscape && !unpaired && !(JSON.parse(text.slice(start, index + 1)) as string).isWellFormed()) {
    throw refused('a string holds an unpaired surrogate');
  }
  return index;
}

function addKey(known: Set<string> | typeof NO_KEYS | null | undefined, literal: string): Set<string> {
  const key = literal.includes('\\') ? (JSON.parse(literal) as string) : literal.slice(1, -1);
  if (key === '__proto__') throw refused('the key __proto__ is not allowed');
  const keys = known instanceof Set ? known : new Set<string>();
  if (keys.has(key)) throw refused('a key appears twice in one object');
  return keys.add(key);
}

function refused(detail: string): RpcError {
  return new RpcError('invalid_request', { data: { detail } });
}
