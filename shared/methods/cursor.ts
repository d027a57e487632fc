// Opaque cursors of the conversation lists: base64url of a JSON tuple, checked on the way back in.
import type { z } from 'zod';
import { RpcError } from '../errors.ts';

export function encodeCursor(position: readonly (string | number)[]): string {
  return Buffer.from(JSON.stringify(position)).toString('base64url');
}

/** Throws RpcError `invalid_params` for anything this list did not hand out. */
export function decodeCursor<T>(cursor: string, schema: z.ZodType<T>): T {
  try {
    return schema.parse(JSON.parse(Buffer.from(cursor, 'base64url').toString('utf8')));
  } catch {
    throw new RpcError('invalid_params', {
      data: { issues: [{ path: 'cursor', message: 'not a cursor of this list' }] },
    });
  }
}
