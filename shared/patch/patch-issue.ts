// The error for a patch that is refused before any process starts.
import { RpcError } from '../errors.ts';

/** `line` counts from 0. */
export function patchIssue(message: string, line?: number): RpcError {
  const where = line === undefined ? '' : ` (line ${line + 1})`;
  return new RpcError('invalid_params', { data: { issues: [{ path: 'patch', message: `${message}${where}` }] } });
}
