// Whether a response is one that the protocol allows: written here from the specification, not taken from
// the dispatcher.

import { expect } from 'vitest';
import { ERRORS, type Reason } from '../../shared/errors.ts';
import { isExactNumber } from '../../shared/rpc/json-numbers.ts';
import type { FuzzedRequest } from './requests.ts';
import { memberOf, type Received } from './transports.ts';

/** What a request must be answered with: nothing, one response, or the responses of a batch in any order. */
type Expected =
  | { readonly kind: 'nothing' }
  | { readonly kind: 'single'; readonly response: Response }
  | { readonly kind: 'batch'; readonly responses: readonly Response[] };

interface Response {
  /** As JSON text. */
  readonly id: string;
  /** The codes it may have; undefined: a result, or an error of a method. */
  readonly code?: readonly number[];
}

const REFUSED: Expected = { kind: 'single', response: { id: 'null', code: [-32700, -32600] } };
const BATCH_MAX = 50;
const BODY_BYTES_MAX = 1 << 20;

export interface Verifier {
  /** Fails the test when the answer breaks a promise. */
  verifier(request: FuzzedRequest, received: Received): void;
  /** How often a response was a result, or an error by its reason. */
  readonly outcomes: ReadonlyMap<string, number>;
}

/**
 * `methods`: names of the registry. `allowed`: whether an error of a reason that is otherwise a defect is as it should
 * be.
 */
export function createVerifier(
  methods: ReadonlySet<string>,
  allowed: (error: unknown) => boolean = () => false,
): Verifier {
  const outcomes = new Map<string, number>();

  const verifyResponse = (response: unknown, received: Received): string => {
    expect(response).toMatchObject({ jsonrpc: '2.0', id: memberOf(response, 'id') });
    const error = memberOf(response, 'error');
    const isError = error !== undefined;
    expect(memberOf(response, 'result') === undefined, 'has a result or an error').toBe(isError);
    const data = memberOf(error, 'data');
    const reason = isError ? String(memberOf(data, 'reason')) : 'result';
    outcomes.set(reason, (outcomes.get(reason) ?? 0) + 1);
    if (!isError) return reason;
    expect(data).toMatchObject({
      request_id: expect.stringMatching(/^req_[0-9a-f]{32}$/),
      retryable: expect.any(Boolean),
    });
    expect(Object.keys(ERRORS)).toContain(reason);
    expect(error).toMatchObject({ code: codeOf(reason), message: expect.stringMatching(/^[^<].{0,2000}$/su) });
    if (!allowed(error)) expect(['internal', 'unavailable', 'rate_limited'], received.transport).not.toContain(reason);
    return reason;
  };

  return {
    outcomes,
    verifier(request, received) {
      if (received.closed !== undefined) {
        expect([request.verdict, received.closed, received.answers]).toEqual(['not_utf8', 1007, []]);
        return;
      }
      const responses = received.answers.flat();
      const reasons = responses.map((response) => verifyResponse(response, received));
      const expected = expectedOf(request, methods);
      const wasRefused = received.answers.length === 1 && fits(REFUSED, received.answers);
      if (request.verdict === 'either' && wasRefused) verifyStatus(request, received, reasons);
      else {
        if (received.left === true) expect(received.answers).toEqual([]);
        else
          expect(describe(received.answers), 'each request is answered once').toEqual(
            describeExpected(expected, received),
          );
        if (received.left !== true) expect(fits(expected, received.answers), 'with its code').toBe(true);
        verifyStatus(request, received, reasons);
      }
    },
  };
}

/** HTTP has the status of a single error, 200 for everything else that is answered, and says nothing but JSON. */
function verifyStatus(
  { body }: FuzzedRequest,
  { transport, status, type, answers, left }: Received,
  reasons: readonly string[],
): void {
  if (transport === 'ws') return;
  const [answer] = answers;
  if (answer === undefined) {
    expect(status).toBe(left === true || type !== undefined ? 200 : 204);
    return;
  }
  const [reason = 'result'] = reasons;
  // 413 is about the body of the request; a request that was accepted and whose answer is too large has 200.
  const isAnswerTooLarge = reason === 'payload_too_large' && body.length <= BODY_BYTES_MAX;
  const expected = Array.isArray(answer) || reason === 'result' || isAnswerTooLarge ? 200 : statusOf(reason);
  expect(status).toBe(expected);
  const isStream = transport === 'sse' && expected === 200;
  expect(type).toMatch(isStream ? /^text\/event-stream(;|$)/ : /^application\/json(;|$)/);
}

function expectedOf({ body, verdict }: FuzzedRequest, methods: ReadonlySet<string>): Expected {
  if (verdict === 'refused' || verdict === 'not_utf8') return REFUSED;
  let value: unknown;
  try {
    value = JSON.parse(body.toString('utf8'), keepInexactIds);
  } catch {
    return REFUSED;
  }
  if (!Array.isArray(value)) {
    const response = responseTo(value, methods);
    return response === undefined ? { kind: 'nothing' } : { kind: 'single', response };
  }
  if (value.length === 0 || value.length > BATCH_MAX) return REFUSED;
  const responses = value.map((call) => responseTo(call, methods)).filter((response) => response !== undefined);
  return responses.length === 0 ? { kind: 'nothing' } : { kind: 'batch', responses };
}

/**
 * An id that JSON.parse would change (1e-400 becomes 0) is no valid id: answering under another id would mislead its
 * caller.
 */
function keepInexactIds(name: string, value: unknown, context?: { readonly source?: string }): unknown {
  const isInexact = name === 'id' && typeof value === 'number' && !isExactNumber(context?.source ?? '');
  return isInexact ? Number.NaN : value;
}

/** https://www.jsonrpc.org/specification#request_object; undefined for a notification. */
function responseTo(call: unknown, methods: ReadonlySet<string>): Response | undefined {
  const invalid = [-32600];
  if (typeof call !== 'object' || call === null || Array.isArray(call)) return { id: 'null', code: invalid };
  const [version, method, params, id] = ['jsonrpc', 'method', 'params', 'id'].map((name) => memberOf(call, name));
  const isId = id === null || Number.isSafeInteger(id) || (typeof id === 'string' && id.length <= 128);
  if (id !== undefined && !isId) return { id: 'null', code: invalid };
  const isCall = version === '2.0' && typeof method === 'string' && method !== '';
  if (!isCall || (params !== undefined && (typeof params !== 'object' || params === null))) {
    return { id: JSON.stringify(id ?? null), code: invalid };
  }
  if (id === undefined) return undefined;
  const code = methods.has(method) ? (Array.isArray(params) && params.length > 0 ? [-32602] : undefined) : [-32601];
  return { id: JSON.stringify(id), ...(code && { code }) };
}

/** The ids of what was answered, sorted, and whether it was a batch. */
function describe(answers: readonly unknown[]): unknown {
  return answers.map((answer) => (Array.isArray(answer) ? answer.map((one) => idOf(one)).toSorted() : idOf(answer)));
}

function describeExpected(expected: Expected, { left }: Received): unknown {
  if (expected.kind === 'nothing' || left === true) return [];
  return expected.kind === 'single' ? [expected.response.id] : [expected.responses.map(({ id }) => id).toSorted()];
}

/** Whether there is a response of the right code under every id. */
function fits(expected: Expected, answers: readonly unknown[]): boolean {
  const wanted =
    expected.kind === 'nothing' ? [] : expected.kind === 'single' ? [expected.response] : expected.responses;
  const left = answers
    .flat()
    .map((answer) => ({ id: idOf(answer), code: memberOf(memberOf(answer, 'error'), 'code') }));
  // Those that must have a certain code choose first.
  for (const { id, code } of wanted.toSorted((a, b) => Number(a.code === undefined) - Number(b.code === undefined))) {
    const index = left.findIndex(
      (one) => one.id === id && (code === undefined || code.some((allowed) => allowed === one.code)),
    );
    if (index === -1) return false;
    left.splice(index, 1);
  }
  return left.length === 0;
}

function idOf(response: unknown): string {
  return JSON.stringify(memberOf(response, 'id') ?? null);
}

function isReason(reason: string): reason is Reason {
  return Object.hasOwn(ERRORS, reason);
}

function codeOf(reason: string): number | undefined {
  return isReason(reason) ? ERRORS[reason].code : undefined;
}

function statusOf(reason: string): number | undefined {
  return isReason(reason) ? ERRORS[reason].status : undefined;
}
