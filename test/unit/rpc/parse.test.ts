// The parser reads or refuses each kind of bytes, in the manner of JSONTestSuite: y_ must be read, n_ must be refused,
// i_ are the cases that RFC 8259 leaves to the implementation and that this one decides.
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { RpcError } from '../../../shared/errors.ts';
import { BODY_BYTES_MAX, DEPTH_MAX, measureHeavy, parseJson, parseRequest } from '../../../shared/rpc/parse.ts';

function parse(body: string | Uint8Array): unknown {
  return parseJson(typeof body === 'string' ? Buffer.from(body) : body);
}

/** The refusal of a body, as the wire would carry it. */
function refusal(body: string | Uint8Array): { readonly reason: string; readonly detail: unknown } {
  try {
    parse(body);
  } catch (error) {
    if (error instanceof RpcError) return { reason: error.reason, detail: error.data.detail };
    throw error;
  }
  throw new Error(`was read: ${String(body).slice(0, 60)}`);
}

const bytes = (...values: number[]): Uint8Array => Uint8Array.from(values);
const nested = (depth: number): string => '['.repeat(depth) + ']'.repeat(depth);

describe('reads', () => {
  it.each<readonly [string, string, unknown]>([
    ['y_structure_whitespace_everywhere', ' \t\r\n{ "a" : [ 1 , 2 ] }\n', { a: [1, 2] }],
    ['y_structure_lonely_string', '"a"', 'a'],
    ['y_structure_lonely_null', 'null', null],
    ['y_object_empty_key', '{"":0}', { '': 0 }],
    ['y_object_same_key_in_two_objects', '[{"a":1},{"a":2}]', [{ a: 1 }, { a: 2 }]],
    ['y_object_same_key_nested', '{"a":{"a":{"a":1}}}', { a: { a: { a: 1 } } }],
    ['y_object_key_equal_to_a_value', '{"a":"b","b":"a"}', { a: 'b', b: 'a' }],
    ['y_object_structure_inside_strings', '{"a":"{\\"a\\":[,]}","b":"}]"}', { a: '{"a":[,]}', b: '}]' }],
    ['y_object_string_that_ends_in_a_backslash', '{"a":"\\\\","b":1}', { a: '\\', b: 1 }],
    ['y_object_constructor_and_prototype', '{"constructor":1,"prototype":2}', { constructor: 1, prototype: 2 }],
    ['y_string_proto_as_value', '["__proto__"]', ['__proto__']],
    ['y_string_surrogate_pair', '["\\uD834\\uDD1E"]', ['𝄞']],
    ['y_string_nul_escape', '["\\u0000"]', ['\u0000']],
    ['y_string_del_and_line_separators', '["\u007f\u2028\u2029"]', ['\u007f\u2028\u2029']],
    ['y_string_escaped_backslash_before_u', '["\\\\ud800"]', ['\\ud800']],
    ['y_string_noncharacter', '["\uffff"]', ['\uffff']],
    ['y_number_negative_zero', '[-0]', [-0]],
    ['y_number_exponent', '[1E-2]', [0.01]],
    ['i_number_too_big_integer_is_rounded', '[9007199254740993]', [9007199254740992]],
    ['i_number_huge_exponent_is_infinite', '[1e400]', [Number.POSITIVE_INFINITY]],
    ['i_number_very_long', `[${'9'.repeat(5000)}]`, [Number.POSITIVE_INFINITY]],
  ])('the parser reads %s', (_name, body, value) => {
    expect(parse(body)).toEqual(value);
  });

  it('the parser reads everything that JSON.stringify writes, unchanged', () => {
    const value = fc.jsonValue({ maxDepth: 6 }).filter((json) => !JSON.stringify(json).includes('"__proto__":'));
    fc.assert(
      fc.property(value, (json) => {
        const text = JSON.stringify(json);
        expect(parse(text)).toEqual(JSON.parse(text));
      }),
    );
  });

  it('the parser reads a body of exactly 1 MiB', () => {
    const body = `"${'x'.repeat(BODY_BYTES_MAX - 2)}"`;
    expect(parse(body)).toHaveLength(BODY_BYTES_MAX - 2);
  });

  it('the parser reads 64 levels, counting arrays and objects alike', () => {
    expect(DEPTH_MAX).toBe(64);
    expect(() => parse(nested(64))).not.toThrow();
    expect(() => parse(`${'{"a":['.repeat(32)}${']}'.repeat(32)}`)).not.toThrow();
    expect(() => parse(`[${Array.from({ length: 1000 }, () => '[]').join()}]`)).not.toThrow();
  });
});

describe('answers -32700 to', () => {
  it.each<readonly [string, string | Uint8Array]>([
    ['n_structure_no_data', ''],
    ['n_structure_whitespace_only', ' \r\n\t'],
    ['n_structure_unclosed_array', '[1'],
    ['n_structure_unclosed_object', '{"a":1'],
    ['n_structure_trailing_garbage', '{}}'],
    ['n_structure_two_values', '{}{}'],
    ['n_structure_100000_opening_arrays', '['.repeat(100_000)],
    ['n_structure_open_array_object', '[{"":'.repeat(50_000)],
    ['n_structure_angle_bracket', '<html>'],
    ['n_structure_null_byte', '{}\u0000'],
    ['n_structure_form_feed', '\f{}'],
    ['n_structure_no_break_space', '\u00a0{}'],
    ['n_structure_capitalized_true', '[True]'],
    ['n_structure_nan', '[NaN]'],
    ['n_structure_infinity', '[-Infinity]'],
    ['n_structure_comment', '{}/**/'],
    ['n_structure_urlencoded', 'jsonrpc=2.0&method=x'],
    ['n_array_trailing_comma', '[1,]'],
    ['n_array_double_comma', '[1,,2]'],
    ['n_object_trailing_comma', '{"a":1,}'],
    ['n_object_unquoted_key', '{a:1}'],
    ['n_object_single_quotes', "{'a':1}"],
    ['n_object_number_as_key', '{1:1}'],
    ['n_object_missing_value', '{"a":}'],
    ['n_number_leading_zero', '[012]'],
    ['n_number_plus', '[+1]'],
    ['n_number_hex', '[0x1]'],
    ['n_number_point_without_digits', '[1.]'],
    ['n_string_raw_control_character', '["\u0001"]'],
    ['n_string_raw_newline', '["a\nb"]'],
    ['n_string_bad_escape', '["\\x41"]'],
    ['n_string_short_unicode_escape', '["\\u00"]'],
    ['n_string_unclosed', '["a'],
    ['i_structure_utf8_bom', bytes(0xef, 0xbb, 0xbf, 0x7b, 0x7d)],
    ['i_structure_utf16le_bom', bytes(0xff, 0xfe, 0x7b, 0x00, 0x7d, 0x00)],
    ['i_string_utf16be', bytes(0x00, 0x7b, 0x00, 0x7d)],
    ['i_string_invalid_utf8', bytes(0x22, 0xff, 0x22)],
    ['i_string_truncated_utf8', bytes(0x22, 0xe0, 0xff, 0x22)],
    ['i_string_overlong_slash', bytes(0x22, 0xc0, 0xaf, 0x22)],
    ['i_string_overlong_nul', bytes(0x22, 0xc0, 0x80, 0x22)],
    ['i_string_utf8_surrogate_U+D800', bytes(0x22, 0xed, 0xa0, 0x80, 0x22)],
    ['i_string_beyond_U+10FFFF', bytes(0x22, 0xf4, 0x90, 0x80, 0x80, 0x22)],
    ['i_string_lone_continuation', bytes(0x22, 0x81, 0x22)],
    ['n_deep_nesting_never_closed', `${'['.repeat(65)}`],
  ])('the parser answers -32700 to %s', (_name, body) => {
    expect(refusal(body).reason).toBe('parse_error');
  });

  it('the parser answers -32700 to anything that JSON.parse refuses, and reads nothing that it would not', () => {
    fc.assert(
      fc.property(fc.string({ unit: fc.constantFrom(...'{}[]:,"\\u0dD8a1-+.eE \n') }), (text) => {
        const expected = (() => {
          try {
            return { value: JSON.parse(text) as unknown };
          } catch {
            return undefined;
          }
        })();
        if (expected === undefined) expect(refusal(text).reason).toBe('parse_error');
        else {
          try {
            expect(parse(text)).toEqual(expected.value);
          } catch (error) {
            expect(error).toMatchObject({ reason: 'invalid_request' });
          }
        }
      }),
      { numRuns: 2000 },
    );
  });
});

describe('answers -32600 to', () => {
  const DUPLICATE = 'a key appears twice in one object';
  const PROTO = 'the key __proto__ is not allowed';
  const SURROGATE = 'a string holds an unpaired surrogate';
  it.each<readonly [string, string, string]>([
    ['i_object_duplicated_key', '{"a":1,"a":2}', DUPLICATE],
    ['i_object_duplicated_key_and_value', '{"a":1,"a":1}', DUPLICATE],
    ['i_object_duplicated_key_by_escape', '{"method":1,"m\\u0065thod":2}', DUPLICATE],
    ['i_object_duplicated_key_by_two_escapes', '{"\\u0061":1,"\\u0061":2}', DUPLICATE],
    ['i_object_duplicated_key_by_hex_case', '{"\\u00E9":1,"\\u00e9":2}', DUPLICATE],
    ['i_object_duplicated_key_by_slash', '{"a/b":1,"a\\/b":2}', DUPLICATE],
    ['i_object_duplicated_empty_key', '{"":1,"":2}', DUPLICATE],
    ['i_object_duplicated_key_far_apart', '{"a":{"b":[{"c":1}]},"d":"}","a":2}', DUPLICATE],
    ['i_object_duplicated_key_in_depth', '[[{"x":{"a":1,"b":2,"a":3}}]]', DUPLICATE],
    ['i_object_proto', '{"__proto__":{"admin":true}}', PROTO],
    ['i_object_proto_escaped', '{"\\u005f_proto__":null}', PROTO],
    [
      'i_object_proto_fully_escaped',
      `{"${[...'__proto__'].map((c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`).join('')}":1}`,
      PROTO,
    ],
    ['i_object_proto_in_depth', '{"params":[{"a":{"__proto__":1}}]}', PROTO],
    ['i_string_lone_high_surrogate', '["\\uD800"]', SURROGATE],
    ['i_string_lone_low_surrogate', '["\\udc00"]', SURROGATE],
    ['i_string_inverted_surrogates', '["\\uDd1e\\uD834"]', SURROGATE],
    ['i_string_incomplete_surrogate_pair', '["\\uD834x\\uDD1E"]', SURROGATE],
    ['i_object_key_lone_surrogate', '{"\\uDFAA":0}', SURROGATE],
    ['i_structure_65_arrays', nested(65), 'nesting is deeper than 64'],
    ['i_structure_65_mixed', `[${'{"a":['.repeat(32)}${']}'.repeat(32)}]`, 'nesting is deeper than 64'],
    ['i_structure_500000_arrays', nested(500_000), 'nesting is deeper than 64'],
  ])('the parser answers -32600 to %s', (_name, body, detail) => {
    expect(refusal(body)).toEqual({ reason: 'invalid_request', detail });
  });

  it('a refused body leaves no trace on Object.prototype', () => {
    refusal('{"__proto__":{"polluted":true}}');
    expect(Reflect.has({}, 'polluted')).toBe(false);
  });
});

describe('the memory that a value takes', () => {
  const measure = (body: string): number | undefined => measureHeavy(Buffer.from(body));
  const objects = `[${Array(100_000).fill('{}').join()}]`;

  it('the memory that a value takes is measured before it is made for very many objects, and is the same figure', () => {
    expect(measure(objects)).toBe(parseRequest(Buffer.from(objects)).heapBytes);
  });

  it.each([
    ['few objects', `[${'1,'.repeat(100_000)}1]`],
    ['what is refused for its depth', nested(100_000)],
    ['what is refused for its syntax and depth', '['.repeat(100_000)],
  ])('the memory that a value takes is not measured for %s', (_name, body) => {
    expect(measure(body)).toBeUndefined();
  });

  it('the estimated memory of a value does not count brackets in strings', () => {
    const body = JSON.stringify([`${'{['.repeat(100_000)}\\"`]);
    expect(measure(body)).toBeLessThan(body.length * 2);
  });
});

describe('the detail of a refusal', () => {
  it('the detail of a refusal has the position, never the content', () => {
    expect(refusal('{"api_key": hunter2}').detail).toBe('the body is not valid JSON');
    expect(refusal('{"api_key": "hunter2",}').detail).toBe('the body is not valid JSON at position 22');
    expect(refusal('at position 1234').detail).toBe('the body is not valid JSON');
    expect(refusal(' ').detail).toBe('the body is empty');
    expect(refusal(bytes(0xff)).detail).toBe('the body is not valid UTF-8');
  });
});
