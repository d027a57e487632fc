// Parses the arguments that a model wrote for a tool call, without rounding numbers. Invalid arguments are refused with
// a message for the model.
import { isObject } from '../../json/json-object.ts';
import { digitsOf, isMarked, parseMarked, toExactText } from '../../rpc/json/exact-json.ts';
import { findUnsafeNumbers, inspectJson } from '../../rpc/json/json-numbers.ts';

type Arguments = Readonly<Record<string, unknown>>;

const DEPTH_MAX = 64;
const NOT_AN_OBJECT = 'The arguments of the call are not a JSON object.';

/** An empty text means no arguments. */
export function readArguments(input: string): { readonly args: Arguments } | { readonly problem: string } {
  const text = input.trim() === '' ? '{}' : input;
  const args = parse(text);
  if (args === undefined) return { problem: NOT_AN_OBJECT };
  if (inspectJson(text).depth > DEPTH_MAX)
    return { problem: `The arguments are nested deeper than ${DEPTH_MAX} levels.` };
  const problem = findRounding(text);
  return problem === undefined ? { args } : { problem };
}

/** The message about invalid arguments with marked numbers (exact-json.ts); undefined if they are valid. */
export function checkArguments(args: Arguments): string | undefined {
  return findRounding(toExactText(args));
}

/**
 * The arguments as they are repeated to the model in the history of the turn: numbers that would be rounded become
 * strings of their digits; arguments that are nested too deeply become empty.
 */
export function toRepeatable(input: string): Arguments {
  const args = parse(input.trim() === '' ? '{}' : input);
  if (args === undefined || inspectJson(input).depth > DEPTH_MAX) return {};
  if (findRounding(input) === undefined) return args;
  return JSON.parse(JSON.stringify(args), (_, member: unknown) => (isMarked(member) ? digitsOf(member) : member));
}

function findRounding(text: string): string | undefined {
  const [path] = findUnsafeNumbers(text, 1);
  if (path === undefined) return undefined;
  return (
    `The argument ${JSON.stringify(path.join('.').slice(0, 200))} is a number that would lose digits ` +
    '(integers are exact up to 2^53). ' +
    'Give it as a string, if the tool takes one.'
  );
}

function parse(text: string): Arguments | undefined {
  try {
    const value = parseMarked(text);
    if (!isObject(value)) return undefined;
    return SURROGATE_ESCAPE.test(text) ? JSON.parse(JSON.stringify(value), toWellFormed) : { ...value };
  } catch {
    return undefined;
  }
}

/** Half of a surrogate pair arrives only as an escape; neither providers nor tools accept it. */
const SURROGATE_ESCAPE = /\\ud[89a-f]/i;

function toWellFormed(_key: string, member: unknown): unknown {
  if (typeof member === 'string') return member.toWellFormed();
  if (!isObject(member) || Object.keys(member).every((name) => name.isWellFormed())) return member;
  return Object.fromEntries(Object.entries(member).map(([name, value]) => [name.toWellFormed(), value]));
}
