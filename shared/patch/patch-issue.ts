// The error for a patch that is refused before any process starts.
import { RpcError } from '../errors.ts';

/** `line` is an index: 0 is the first line. */
export function patchIssue(message: string, line?: number): RpcError {
  const where = line === undefined ? '' : ` (line ${line + 1})`;
  return new RpcError('invalid_params', { data: { issues: [{ path: 'patch', message: `${message}${where}` }] } });
}
