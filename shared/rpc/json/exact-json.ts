// Parses JSON without losing digits: a number that JavaScript would round becomes a marked string, and is written again
// as the original number.
import { randomUUID } from 'node:crypto';
import { inspectJson, replaceLiterals } from './json-numbers.ts';

/** Random per process, so that a string in a request cannot look like a marked number. */
const MARK = `number-${randomUUID()}:`;
const QUOTED_MARK = new RegExp(`"${MARK}([^"]*)"`, 'g');

/** Like JSON.parse, but returns marked strings for numbers that JSON.parse would round. */
export function parseMarked(text: string): unknown {
  return JSON.parse(markNumbers(text));
}

/** The text with numbers that JSON.parse would round as marked strings; valid JSON stays valid JSON. */
export function markNumbers(text: string): string {
  if (!mayLoseDigits(text)) return text;
  const { inexact } = inspectJson(text);
  return inexact.length === 0 ? text : replaceLiterals(text, inexact, (literal) => `"${MARK}${literal}"`);
}

/**
 * A fast check with false positives: every number that a double cannot represent has at least 16 digits, or an
 * exponent.
 */
export function mayLoseDigits(text: string): boolean {
  return /[\d.]{16}|\d[eE]/.test(text);
}

export function isMarked(value: unknown): value is string {
  return typeof value === 'string' && value.startsWith(MARK);
}

/** Whether the value contains a marked number. Iterative, because deep nesting would exceed the stack. */
export function hasMarks(value: unknown): boolean {
  const left: unknown[] = [value];
  while (left.length > 0) {
    const next = left.pop();
    if (isMarked(next)) return true;
    if (typeof next === 'object' && next !== null) for (const member of Object.values(next)) left.push(member);
  }
  return false;
}

/** JSON text of a value with marked numbers; their digits are those of the parsed text. */
export function toExactText(value: unknown): string {
  return JSON.stringify(value).replaceAll(QUOTED_MARK, '$1');
}

/** The digits of a marked number, without its mark. */
export function digitsOf(marked: string): string {
  return marked.slice(MARK.length);
}
