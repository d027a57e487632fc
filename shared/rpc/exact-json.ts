// JSON that is read in full without losing a digit: a number that JavaScript would round is kept as a marked string
// until it is written again.
import { randomUUID } from 'node:crypto';
import { inspectJson, replaceLiterals } from './json-numbers.ts';

/** Random, so that no text from outside can pass for a mark. */
const MARK = `number-${randomUUID()}:`;
const QUOTED_MARK = new RegExp(`"${MARK}([^"]*)"`, 'g');

/** As JSON.parse, with numbers that it would round as marked strings. */
export function parseMarked(text: string): unknown {
  return JSON.parse(markNumbers(text));
}

/** The text with numbers that JSON.parse would round as marked strings; valid JSON stays valid JSON. */
export function markNumbers(text: string): string {
  if (!mayLoseDigits(text)) return text;
  const { inexact } = inspectJson(text);
  return inexact.length === 0 ? text : replaceLiterals(text, inexact, (literal) => `"${MARK}${literal}"`);
}

/** A quick look: every number that a double cannot keep has 16 digits or more, or an exponent. */
export function mayLoseDigits(text: string): boolean {
  return /[\d.]{16}|\d[eE]/.test(text);
}

export function isMarked(value: unknown): value is string {
  return typeof value === 'string' && value.startsWith(MARK);
}

/** Whether any number in the value is marked. Iterative: the value may nest deeply. */
export function hasMarks(value: unknown): boolean {
  const left: unknown[] = [value];
  while (left.length > 0) {
    const next = left.pop();
    if (isMarked(next)) return true;
    if (typeof next === 'object' && next !== null) for (const member of Object.values(next)) left.push(member);
  }
  return false;
}

/** JSON text of a marked value, every digit as it came. */
export function toExactText(value: unknown): string {
  return JSON.stringify(value).replaceAll(QUOTED_MARK, '$1');
}

/** The digits of a marked number, for a place that takes text. */
export function digitsOf(marked: string): string {
  return marked.slice(MARK.length);
}
