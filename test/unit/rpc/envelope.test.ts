// A JSON-RPC 2.0 envelope is read as a call, as a notification, or as an invalid request that is answered under the id
// that could be read.
import { describe, expect, it } from 'vitest';
import { RpcError } from '../../../shared/errors.ts';
import { BATCH_MAX, isBad, readEnvelope } from '../../../shared/rpc/envelope.ts';

const CALL = { jsonrpc: '2.0', method: 'a.b', id: 1 };

/** The only member of a single request. */
function readOne(value: unknown) {
  const { batch, calls } = readEnvelope(value);
  const [call] = calls;
  if (batch || call === undefined || calls.length !== 1) throw new Error('not a single request');
  return call;
}

describe('a call', () => {
  it.each([
    ['a number', 7],
    ['zero', 0],
    ['a negative number', -3],
    ['the largest safe integer', Number.MAX_SAFE_INTEGER],
    ['negative zero', -0],
    ['a string', 'abc'],
    ['an empty string', ''],
    ['128 characters', 'x'.repeat(128)],
    ['null', null],
  ])('a call may have %s as its id', (_name, id) => {
    expect(readOne({ ...CALL, id })).toEqual({ id, method: 'a.b', params: undefined });
  });

  it('a call takes params by name or by position, validated later, and ignores members outside the specification', () => {
    expect(readOne({ ...CALL, params: { a: 1 }, extra: true })).toEqual({ id: 1, method: 'a.b', params: { a: 1 } });
    expect(readOne({ ...CALL, params: [1] })).toMatchObject({ params: [1] });
  });

  it('a call without an id is a notification', () => {
    expect(readOne({ jsonrpc: '2.0', method: 'a.b' })).toEqual({ id: undefined, method: 'a.b', params: undefined });
  });
});

describe('an invalid request', () => {
  it.each<readonly [string, unknown, unknown]>([
    ['a number', 1, null],
    ['a string', 'abc', null],
    ['null', null, null],
    ['true', true, null],
    ['an empty object', {}, null],
    ['another version', { ...CALL, jsonrpc: '1.0' }, 1],
    ['the version as a number', { ...CALL, jsonrpc: 2 }, 1],
    ['no version', { method: 'a.b', id: 1 }, 1],
    ['no method', { jsonrpc: '2.0', id: 'x' }, 'x'],
    ['a method that is a number', { ...CALL, method: 1 }, 1],
    ['an empty method', { ...CALL, method: '' }, 1],
    ['params that are a string', { ...CALL, params: 'bar' }, 1],
    ['params that are null', { ...CALL, params: null }, 1],
    ['an id that is a fraction', { ...CALL, id: 1.5 }, null],
    ['an id beyond the safe integers', { ...CALL, id: 2 ** 53 }, null],
    ['an id that is infinite', { ...CALL, id: Number.POSITIVE_INFINITY }, null],
    ['an id of 129 characters', { ...CALL, id: 'x'.repeat(129) }, null],
    ['an id that is an object', { ...CALL, id: {} }, null],
    ['an id that is an array', { ...CALL, id: [1] }, null],
    ['an id that is a boolean', { ...CALL, id: false }, null],
    ['a broken notification', { jsonrpc: '2.0', method: 1 }, null],
  ])('an invalid request is %s, answered under the id that could be read', (_name, value, id) => {
    const call = readOne(value);
    if (!isBad(call)) throw new Error('was read');
    expect(call.id).toBe(id);
    expect(call.error.reason).toBe('invalid_request');
  });
});

describe('a batch', () => {
  it('a batch of 1 to 50 is read call by call, the broken ones among them', () => {
    expect(readEnvelope([CALL])).toMatchObject({ batch: true, calls: [{ id: 1 }] });
    const { calls } = readEnvelope(Array.from({ length: BATCH_MAX }, (_, n) => (n % 2 === 0 ? { ...CALL, id: n } : n)));
    expect(calls).toHaveLength(50);
    expect(calls.filter(isBad)).toHaveLength(25);
    expect(calls.filter(isBad).every(({ id }) => id === null)).toBe(true);
  });

  it('a batch inside a batch is an invalid request', () => {
    expect(readEnvelope([[CALL]]).calls.map(isBad)).toEqual([true]);
  });

  it.each([
    ['no calls', []],
    ['51 calls', Array.from({ length: 51 }, () => CALL)],
    ['280 000 calls', Array.from({ length: 280_000 }, () => 1)],
  ])('a batch of %s is refused as a whole', (_name, batch) => {
    expect(() => readEnvelope(batch)).toThrow(RpcError);
    expect(() => readEnvelope(batch)).toThrow(expect.objectContaining({ reason: 'invalid_request' }));
  });
});
