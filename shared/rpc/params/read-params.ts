// Reads the params of a call, and checks them by the schema of its method.
import { type Issue, RpcError } from '../../errors.ts';
import type { Call } from '../envelope.ts';
import type { AnyMethod } from '../method.ts';
import { checkParams } from './issues.ts';

const UNSAFE_NUMBER = 'is a number that would lose digits (integers are exact up to 2^53): send it as a string';

/** Throws RpcError `invalid_params` with the issues. */
export function readParams<Context>(
  method: AnyMethod<Context>,
  { params, unsafeNumbers = [] }: Call,
): Record<string, unknown> {
  if (unsafeNumbers.length > 0) {
    const issues = unsafeNumbers.map((path) => ({ path: path.slice(0, 200), message: UNSAFE_NUMBER }));
    throw new RpcError('invalid_params', { data: { issues } });
  }
  // An empty array is equal to absent params. A longer array is invalid, because params have no defined order.
  const isList = Array.isArray(params);
  if (isList && params.length > 0) {
    const message = 'params must be given by name, in an object';
    throw new RpcError('invalid_params', { data: { issues: [{ path: '', message } satisfies Issue] } });
  }
  const checked = checkParams(method.params, isList ? {} : (params ?? {}));
  if ('params' in checked) return checked.params;
  throw new RpcError('invalid_params', { data: { issues: checked.issues } });
}
