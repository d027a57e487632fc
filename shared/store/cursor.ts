// Opaque cursors of lists: base64url of a JSON tuple with the position at which a page of an ordered query ended.
// Decoding validates them.
import { z } from 'zod';
import { RpcError } from '../errors.ts';
import { ID } from './document.ts';

/** The id of a document in a position. A store throws for a text that can be none. */
export const DocumentId = z.string().regex(ID);

export function encodeCursor(position: readonly (string | number)[]): string {
  return Buffer.from(JSON.stringify(position)).toString('base64url');
}

/**
 * Decodes a cursor. Throws RpcError `invalid_params` about the param `path` for any text that is no cursor of this
 * list.
 */
export function decodeCursor<T>(
  cursor: string,
  schema: z.ZodType<T>,
  path = 'cursor',
  message = 'not a cursor of this list',
): T {
  try {
    return schema.parse(JSON.parse(Buffer.from(cursor, 'base64url').toString('utf8')));
  } catch {
    throw badCursor(path, message);
  }
}

export function badCursor(path: string, message: string): RpcError {
  return new RpcError('invalid_params', { data: { issues: [{ path, message }] } });
}
