// JSON.stringify in slices of time, for large responses: a text of megabytes would block the event loop, and with it
// all other requests, for a tenth of a second.
import { createSlices, nextHeavyTurn } from '../../async.ts';

/** Escaped, a piece takes less than a slice. */
const STRING_PIECE = 64 << 10;
const LIST_PIECE = 1_000;
/** Values that are taken apart; the others are one piece each. */
const NODES_MAX = 5_000;
const DEPTH_MAX = 16;

/** The text of `JSON.stringify(value)`, `null` for undefined. Rejects with the error of JSON.stringify. */
export async function stringifyInSlices(value: unknown): Promise<string> {
  const parts: string[] = [];
  await nextHeavyTurn();
  const slice = createSlices();
  for (const part of pieces(value, { nodes: NODES_MAX }, DEPTH_MAX)) {
    parts.push(part);
    await slice();
  }
  return parts.join('');
}

function* pieces(value: unknown, left: { nodes: number }, depth: number): Generator<string> {
  left.nodes--;
  if (typeof value === 'string' && value.length > STRING_PIECE) yield* ofString(value);
  else if (left.nodes <= 0 || depth <= 0) yield JSON.stringify(value) ?? 'null';
  else if (Array.isArray(value)) yield* ofList(value, left, depth);
  else if (isPlain(value)) yield* ofObject(value, left, depth);
  else yield JSON.stringify(value) ?? 'null';
}

function* ofString(text: string): Generator<string> {
  yield '"';
  for (let start = 0; start < text.length; ) {
    const end = start + STRING_PIECE;
    // The halves of a surrogate pair stay together: alone, they would be escaped.
    const isPair = end < text.length && (text.charCodeAt(end - 1) & 0xfc00) === 0xd800;
    const piece = text.slice(start, isPair ? end - 1 : end);
    yield JSON.stringify(piece).slice(1, -1);
    start += piece.length;
  }
  yield '"';
}

function* ofList(list: readonly unknown[], left: { nodes: number }, depth: number): Generator<string> {
  yield '[';
  if (list.length <= LIST_PIECE) {
    for (const [index, value] of list.entries()) {
      if (index > 0) yield ',';
      yield* pieces(value, left, depth - 1);
    }
  } else {
    for (let start = 0; start < list.length; start += LIST_PIECE) {
      if (start > 0) yield ',';
      yield JSON.stringify(list.slice(start, start + LIST_PIECE)).slice(1, -1);
    }
  }
  yield ']';
}

function* ofObject(value: object, left: { nodes: number }, depth: number): Generator<string> {
  let before = '{';
  for (const [name, member] of Object.entries(value)) {
    if (member === undefined || typeof member === 'function' || typeof member === 'symbol') continue;
    yield `${before}${JSON.stringify(name)}:`;
    before = ',';
    yield* pieces(member, left, depth - 1);
  }
  yield before === '{' ? '{}' : '}';
}

function isPlain(value: unknown): value is object {
  if (typeof value !== 'object' || value === null || 'toJSON' in value) return false;
  const prototype = Object.getPrototypeOf(value);
  return prototype === Object.prototype || prototype === null;
}
