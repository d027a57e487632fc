// JSON that is not what it should be: values of every wrong kind, and literals that JSON.stringify cannot write. Knows
// nothing of methods.
import fc from 'fast-check';

/** JSON text put in as it is. */
export class Raw {
  readonly text: string;
  /** The gateway's parser refuses the whole body for it. */
  readonly isRefused: boolean;

  constructor(text: string, isRefused = false) {
    this.text = text;
    this.isRefused = isRefused;
  }

  [fc.toStringMethod](): string {
    return `Raw(${this.text.slice(0, 60)})`;
  }
}

const deep = (open: string, close: string, levels: number): string => open.repeat(levels) + close.repeat(levels);

const REFUSED = [
  '"\\ud800"',
  '"\\udc00 before"',
  '{"\\ud800":1}',
  '{"a":1,"a":2}',
  '{"a":1,"\\u0061":2}',
  '{"__proto__":{"isAdmin":true}}',
  '{"\\u005f_proto__":1}',
  '[{"x":{"__proto__":null}}]',
  deep('[', ']', 70),
  `${'{"a":'.repeat(70)}1${'}'.repeat(70)}`,
  deep('[', ']', 20_000),
].map((text) => new Raw(text, true));

const ODD = [
  '1e400',
  '-1e400',
  '1e-400',
  '-0',
  '9007199254740993',
  '-9007199254740993',
  '123456789012345678901234567890',
  '2147483648',
  '-2147483649',
  '1E+2',
  '0.1',
  '5e-324',
  '1.7976931348623157e308',
  '"\\u0000"',
  '"\\u007f\\u0080\\u009f"',
  '"\\ud83d\\ude00"',
  '"\\/"',
  '{"constructor":{"prototype":{"isAdmin":true}}}',
  '{"toString":1,"valueOf":null,"hasOwnProperty":[],"then":1,"length":-1}',
  '{"":{"":[]}}',
  deep('[', ']', 40),
  `${'{"a":'.repeat(40)}1${'}'.repeat(40)}`,
].map((text) => new Raw(text));

/** Addresses are literal and lead nowhere: no resolver is called and nothing leaves the machine. */
const STRINGS = [
  '',
  ' ',
  '\u0000',
  'a\u0000b',
  '\r\n\r\nX-Injected: 1',
  '\u202eabc\u202c',
  '\u200b',
  'é𝄞👩‍👩‍👧‍👦',
  '\u{10ffff}',
  "' OR 1=1 --",
  '<script>alert(1)</script>',
  '{{7*7}} <%= 7*7 %> %n%s',
  '../../../etc/passwd',
  '/etc/passwd',
  '//127.0.0.1/',
  '/a/%2e%2e/b',
  '/\\evil',
  '/%',
  '/ü?q=ü#f',
  'http://169.254.169.254/computeMetadata/v1/',
  'http://[::1]:1/',
  'http://127.0.0.1:1/mcp',
  'https://user:pass@127.0.0.1/',
  'file:///etc/passwd',
  'javascript:alert(1)',
  '$(touch /tmp/x)',
  '-rf',
  '--help',
  'A=B',
  'LD_PRELOAD',
  'NaN',
  'null',
  'true',
  '-1',
  'anthropic/claude',
  'openai/gpt-5',
  'codex/gpt-5',
  'offline/echo',
  'nobody/nothing',
  '2026-13-45T99:99:99Z',
  'bm90IGEgY3Vyc29y',
  'WzFd',
  'WzFlMzA4XQ',
  'W10',
  'WyIiLCIiXQ',
  'bnVsbA',
  'live..',
  'live.zzzz.',
  'live.mi2k7q00.',
  'CgVIZWxsbw==',
  'CgD//w==',
  '////',
  'x'.repeat(129),
  'x'.repeat(5_000),
  'ü'.repeat(10_000),
] as const;

export const naughtyString: fc.Arbitrary<string> = fc.oneof(
  { weight: 8, arbitrary: fc.constantFrom(...STRINGS) },
  { weight: 2, arbitrary: fc.string({ unit: 'grapheme', maxLength: 20 }).filter((text) => !text.includes('://')) },
  { weight: 1, arbitrary: fc.string({ unit: 'binary', maxLength: 20 }).filter((text) => !text.includes('://')) },
);

/**
 * Names of members that code might trip over. `__proto__` is among the literals: as a name in JavaScript it would be no
 * member.
 */
export const naughtyKey: fc.Arbitrary<string> = fc.constantFrom(
  'constructor',
  'prototype',
  'toString',
  'hasOwnProperty',
  'then',
  'length',
  'admin',
  'owner',
  'key_id',
  'session_id ',
  'Session_Id',
  '',
  '0',
  '\u0000',
  '$where',
  'a.b',
  '%s',
  'é',
  'x'.repeat(1_000),
);

/** A value of a kind that nobody expects. */
export const naughtyValue: fc.Arbitrary<unknown> = fc.oneof(
  { weight: 5, arbitrary: naughtyString },
  {
    weight: 3,
    arbitrary: fc.constantFrom<unknown>(null, true, false, 0, -1, 1, 1.5, 2 ** 53, [], {}, [[]], [null], { a: 1 }),
  },
  { weight: 2, arbitrary: fc.constantFrom(...ODD) },
  { weight: 1, arbitrary: fc.constantFrom(...REFUSED) },
  { weight: 1, arbitrary: fc.dictionary(naughtyKey, naughtyString, { maxKeys: 4 }) },
  { weight: 1, arbitrary: fc.array(naughtyString, { maxLength: 5 }) },
);

/** Of the bodies above: those that are refused for an escaped surrogate alone. */
const UNPAIRED = /\\ud[89a-f]../i;

/** The value as JSON text; members that are undefined are left out. */
export function toText(value: unknown): string {
  if (value instanceof Raw) return value.text;
  if (Array.isArray(value)) return `[${value.map((item) => toText(item)).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'null';
  const members = Object.entries(value).filter(([, member]) => member !== undefined);
  return `{${members.map(([name, member]) => `${JSON.stringify(name)}:${toText(member)}`).join(',')}}`;
}

/**
 * Whether the body is refused as a whole for something in the value. `kept`: bodies that are kept as text may hold
 * unpaired surrogates.
 */
export function isRefused(value: unknown, kept = false): boolean {
  if (value instanceof Raw) return value.isRefused && !(kept && UNPAIRED.test(value.text));
  if (typeof value === 'string') return !kept && !value.isWellFormed();
  if (typeof value !== 'object' || value === null) return false;
  return Object.entries(value).some(([name, member]) => isRefused(name, kept) || isRefused(member, kept));
}
