// The arguments of a tool call as a model wrote them: read without losing a digit, or refused with a message that the
// model can use.
import { digitsOf, isMarked, parseMarked, toExactText } from '../../rpc/exact-json.ts';
import { findUnsafeNumbers, inspectJson } from '../../rpc/json-numbers.ts';

type Arguments = Readonly<Record<string, unknown>>;

const DEPTH_MAX = 64;
const NOT_AN_OBJECT = 'The arguments of the call are not a JSON object.';

/** Models leave the text of a call without arguments empty. */
export function readArguments(input: string): { readonly args: Arguments } | { readonly problem: string } {
  const text = input.trim() === '' ? '{}' : input;
  const args = parse(text);
  if (args === undefined) return { problem: NOT_AN_OBJECT };
  if (inspectJson(text).depth > DEPTH_MAX)
    return { problem: `The arguments are nested deeper than ${DEPTH_MAX} levels.` };
  const problem = findRounding(text);
  return problem === undefined ? { args } : { problem };
}

/** What is wrong with arguments that were read with marked numbers (exact-json.ts). */
export function checkArguments(args: Arguments): string | undefined {
  return findRounding(toExactText(args));
}

/**
 * A call in the history of its turn, for the model that made it: a number that would be rounded is repeated as its
 * digits, and nothing of what nests too deeply.
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
    if (!isRecord(value)) return undefined;
    return SURROGATE_ESCAPE.test(text) ? JSON.parse(JSON.stringify(value), toWellFormed) : { ...value };
  } catch {
    return undefined;
  }
}

/** Half of a surrogate pair arrives only as an escape; neither providers nor tools accept it. */
const SURROGATE_ESCAPE = /\\ud[89a-f]/i;

function toWellFormed(_key: string, member: unknown): unknown {
  if (typeof member === 'string') return member.toWellFormed();
  if (!isRecord(member) || Object.keys(member).every((name) => name.isWellFormed())) return member;
  return Object.fromEntries(Object.entries(member).map(([name, value]) => [name.toWellFormed(), value]));
}

function isRecord(value: unknown): value is Arguments {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
