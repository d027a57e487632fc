// Each row of the error table has its code and status, and an error shows nothing else on the wire.
import { describe, expect, it } from 'vitest';
import { ERRORS, type Reason, RpcError, toRpcError } from '../../shared/errors.ts';

/** What callers rely on: code, HTTP status of a single call, reasons. */
const CONTRACT: readonly (readonly [code: number, status: number, reasons: readonly Reason[]])[] = [
  [-32700, 400, ['parse_error']],
  [-32600, 400, ['invalid_request']],
  [-32601, 200, ['method_not_found']],
  [-32602, 200, ['invalid_params']],
  [-32603, 500, ['internal']],
  [401, 401, ['unauthorized']],
  [429, 429, ['rate_limited']],
  [413, 413, ['payload_too_large']],
  [415, 415, ['unsupported_media_type']],
  [405, 405, ['method_not_allowed']],
  [503, 503, ['unavailable']],
  [403, 200, ['forbidden', 'sandbox_unavailable']],
  [404, 200, ['not_found']],
  [409, 200, ['conflict', 'session_busy', 'queue_full', 'idempotency_in_flight', 'patch_failed', 'storage_full']],
  [499, 200, ['cancelled']],
  [502, 200, ['upstream_error']],
  [504, 200, ['upstream_timeout']],
];

describe('the error table', () => {
  it.each(CONTRACT.flatMap(([code, status, reasons]) => reasons.map((reason) => [reason, code, status] as const)))(
    'the error %s has the code %i and the HTTP status %i',
    (reason, code, status) => {
      expect(ERRORS[reason]).toMatchObject({ code, status });
      expect(new RpcError(reason)).toMatchObject({ code, callStatus: status });
    },
  );

  it.each(CONTRACT.flatMap(([code, status, reasons]) => reasons.map((reason) => [reason, code, status] as const)))(
    'the error %s outside a call has an HTTP status of its own',
    (reason, code, status) => {
      const expected = code === 499 ? 400 : code >= 400 ? code : status === 200 ? 400 : status;
      expect(new RpcError(reason).httpStatus).toBe(expected);
    },
  );

  it('the error table has a reason for every public code and a code for every reason', () => {
    const codes = new Set(Object.values(ERRORS).map(({ code }) => code));
    expect([...codes].toSorted()).toEqual(CONTRACT.map(([code]) => code).toSorted());
    expect(CONTRACT.flatMap(([, , reasons]) => reasons).toSorted()).toEqual(Object.keys(ERRORS).toSorted());
  });
});

describe('an error on the wire', () => {
  it('an error on the wire carries reason, request id and whether a retry may help, and its data beside them', () => {
    const wire = new RpcError('rate_limited', { data: { limit: 5 }, retryAfterMs: 10.2 }).toWire('req_1');
    expect(wire).toEqual({
      code: 429,
      message: 'Too Many Requests',
      data: { reason: 'rate_limited', request_id: 'req_1', retryable: true, retry_after_ms: 11, limit: 5 },
    });
    expect(new RpcError('not_found').toWire('r').data).not.toHaveProperty('retry_after_ms');
  });

  it('an error on the wire cannot have its reason or request id replaced by its data', () => {
    const { data } = new RpcError('not_found', { data: { reason: 'x', request_id: 'y', retryable: 1 } }).toWire(
      'req_1',
    );
    expect(data).toEqual({ reason: 'not_found', request_id: 'req_1', retryable: false });
  });

  it('an error on the wire contains neither its cause nor its stack', () => {
    const wire = JSON.stringify(toRpcError(new Error('hunter2')).toWire('req_1'));
    expect(wire).not.toMatch(/hunter2|stack|at /);
  });
});

describe('anything thrown', () => {
  it('a thrown RpcError is returned unchanged', () => {
    const error = new RpcError('cancelled');
    expect(toRpcError(error)).toBe(error);
  });

  it.each([[new Error('x')], ['text'], [undefined], [null], [{ reason: 'not_found' }]])(
    'anything thrown but an RpcError becomes internal, with it as the cause: %s',
    (thrown) => {
      const error = toRpcError(thrown);
      expect(error).toMatchObject({ reason: 'internal', httpStatus: 500, callStatus: 500 });
      expect(error.cause).toBe(thrown);
    },
  );
});
