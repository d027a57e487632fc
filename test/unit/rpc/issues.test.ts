// The message of -32602 is plain English for every kind of mistake and for every method, without the validator's own
// phrases and without values.
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { RpcError } from '../../../shared/errors.ts';
import * as methods from '../../../shared/methods/index.ts';
import { checkParams } from '../../../shared/rpc/params/issues.ts';
import { nearest } from '../../../shared/rpc/params/nearest.ts';

function messagesOf(schema: z.ZodObject, params: unknown): string[] {
  const checked = checkParams(schema, params);
  return 'issues' in checked ? checked.issues.map(({ message }) => message) : [];
}

describe('an issue', () => {
  const schema = z.strictObject({
    text: z.string().min(2).max(4).optional(),
    count: z.int().min(1).max(3).optional(),
    ratio: z.number().gt(0).lt(1).optional(),
    flag: z.boolean().optional(),
    list: z.array(z.string()).min(1).max(2).optional(),
    map: z.record(z.string().regex(/^a/, 'must begin with a'), z.string()).optional(),
    data: z.base64().optional(),
    own: z
      .string()
      .refine((text) => text !== 'no', 'must not be no')
      .optional(),
    server: z
      .union([z.strictObject({ name: z.string(), command: z.string() }), z.strictObject({ url: z.string() })])
      .optional(),
    either: z.union([z.string().min(1), z.array(z.string())]).optional(),
  });

  it.each<readonly [unknown, string]>([
    [{ text: null }, 'text must be a string'],
    [{ text: 'a' }, 'text must have at least 2 characters'],
    [{ text: 'abcde' }, 'text must have at most 4 characters'],
    [{ count: 1.5 }, 'count must be an integer'],
    [{ count: 0 }, 'count must be at least 1'],
    [{ count: 4 }, 'count must be at most 3'],
    [{ ratio: 0 }, 'ratio must be greater than 0'],
    [{ ratio: 1 }, 'ratio must be less than 1'],
    [{ flag: 'yes' }, 'flag must be true or false'],
    [{ list: 'a' }, 'list must be a list'],
    [{ list: [] }, 'list must not be empty'],
    [{ list: ['a', 'b', 'c'] }, 'list must have at most 2 entries'],
    [{ list: ['a', 5] }, 'list.1 must be a string'],
    [{ map: [] }, 'map must be an object'],
    [{ map: { b: 'x' } }, 'map.b cannot be a name here: it must begin with a'],
    [{ map: { '': 'x' } }, 'map must not have an empty name'],
    [{ data: '*' }, 'data must be base64'],
    [{ own: 'no' }, 'own must not be no'],
    [{ server: 5 }, 'server must be an object'],
    [{ either: 5 }, 'either must be a string or a list'],
    [{ either: '' }, 'either must not be empty'],
    [{ either: [5] }, 'either.0 must be a string'],
    [{ server: { name: 'a', comand: 'b' } }, 'server.command is required'],
    [{ server: { name: 'a', command: 5 } }, 'server.command must be a string'],
    [{ txt: 'abc' }, 'txt is not known, did you mean text?'],
    [{ wrong: 1 }, 'wrong is not known'],
  ])('the message for %j says what is wrong', (params, message) => {
    expect(messagesOf(schema, params)[0]).toBe(message);
  });

  it('the issue of a misspelt name within a param has the whole path', () => {
    const issues = messagesOf(schema, { server: { name: 'a', comand: 'b' } });
    expect(issues[1]).toBe('server.comand is not known, did you mean server.command?');
  });

  it.each(Object.values(methods).map((method) => [method.name, method] as const))(
    'the message for params of %s contains neither a phrase of the validator nor a value',
    (_name, method) => {
      for (const value of ['s3cret'.repeat(20_000), '', -1.5, null, [['s3cret']], { s3cret: true }, true]) {
        const params = Object.fromEntries(Object.keys(method.params.shape).map((key) => [key, value]));
        for (const message of messagesOf(method.params, params)) {
          expect(message).toMatch(/^[a-z_]+(\.\w+)* [a-z]/);
          expect(message).not.toMatch(/invalid |expected|received|too (small|big)|unrecognized|s3cret{20}/i);
        }
      }
    },
  );
});

describe('the message of the error', () => {
  const issue = (path: string, message: string) => ({ path, message });
  const messageOf = (...issues: object[]): string => new RpcError('invalid_params', { data: { issues } }).message;

  it('the message of the error is made of the first issues, each with its path once', () => {
    expect(messageOf(issue('a', 'a is required'))).toBe('a is required');
    expect(messageOf(issue('a', 'the provider refused it'))).toBe('a: the provider refused it');
    expect(messageOf(...['a', 'b', 'c', 'd', 'e'].map((path) => issue(path, 'no')))).toBe(
      'a: no; b: no; c: no; and 2 more',
    );
  });

  it('the message of the error without issues is that of the table', () => {
    expect(new RpcError('invalid_params').message).toBe('Invalid params');
  });
});

describe('the nearest name', () => {
  const NAMES = ['session_id', 'prompt', 'model', 'on_busy'];
  it.each([
    ['sessionId', 'session_id'],
    ['SessionID', 'session_id'],
    ['session-id', 'session_id'],
    ['sesion_id', 'session_id'],
    ['promt', 'prompt'],
    ['modle', undefined],
    ['x', undefined],
    ['conversation', undefined],
    ['s'.repeat(100_000), undefined],
  ])('the nearest name of %s is %s', (name, near) => {
    expect(nearest(name, NAMES)).toBe(near);
  });
});
