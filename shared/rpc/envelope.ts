// JSON-RPC 2.0 envelopes (https://www.jsonrpc.org/specification): turns a parsed value into calls. Does not look up
// methods.

import { RpcError } from '../errors.ts';
import { isObject } from '../json/json-object.ts';

export type Id = string | number | null;

/** Most calls in one batch; bounds the work that one small request can cause. */
export const BATCH_MAX = 50;
const ID_CHARS_MAX = 128;

/** A valid call. `id` undefined: a notification, which has no response. */
export interface Call {
  readonly id: Id | undefined;
  readonly method: string;
  readonly params: unknown;
  /** Dotted paths of the numbers in params that parsing has rounded. */
  readonly unsafeNumbers?: readonly string[];
}

/** An invalid member of a request. Its error is sent with its id if that is valid, else with null. */
export interface BadCall {
  readonly id: Id;
  readonly error: RpcError;
}

export interface Envelope {
  readonly batch: boolean;
  readonly calls: readonly (Call | BadCall)[];
}

/**
 * Reads a single request or a batch. `unsafeNumbers`: the paths of the numbers that parsing has rounded. Throws
 * RpcError `invalid_request` for an empty or too long batch.
 */
export function readEnvelope(value: unknown, unsafeNumbers: readonly (readonly string[])[] = []): Envelope {
  if (!Array.isArray(value)) return { batch: false, calls: [readCall(value, unsafeNumbers)] };
  if (value.length === 0) throw invalid('a batch must not be empty');
  if (value.length > BATCH_MAX) throw invalid(`a batch holds at most ${BATCH_MAX} calls, this one has ${value.length}`);
  const within = (index: number) => unsafeNumbers.filter(([at]) => at === String(index)).map((path) => path.slice(1));
  return { batch: true, calls: value.map((call, index) => readCall(call, within(index))) };
}

export function isBad(call: Call | BadCall): call is BadCall {
  return 'error' in call;
}

function readCall(value: unknown, unsafeNumbers: readonly (readonly string[])[]): Call | BadCall {
  if (!isObject(value)) return { id: null, error: invalid('a request must be an object') };
  const { jsonrpc, id, method, params } = value;
  if (id !== undefined && (!isId(id) || unsafeNumbers.some(([member]) => member === 'id'))) {
    return {
      id: null,
      error: invalid(`id must be a string of at most ${ID_CHARS_MAX} characters, a safe integer or null`),
    };
  }
  const answerId = id ?? null;
  if (jsonrpc !== '2.0') return { id: answerId, error: invalid('jsonrpc must be "2.0"') };
  if (typeof method !== 'string' || method === '')
    return { id: answerId, error: invalid('method must be a non-empty string') };
  if (params !== undefined && (typeof params !== 'object' || params === null)) {
    return { id: answerId, error: invalid('params must be an object') };
  }
  const inParams = unsafeNumbers.filter(([member]) => member === 'params').map((path) => path.slice(1).join('.'));
  return { id, method, params, ...(inParams.length > 0 && { unsafeNumbers: inParams }) };
}

function isId(id: unknown): id is Id {
  if (id === null) return true;
  return typeof id === 'string' ? id.length <= ID_CHARS_MAX : Number.isSafeInteger(id);
}

function invalid(detail: string): RpcError {
  return new RpcError('invalid_request', { data: { detail } });
}
