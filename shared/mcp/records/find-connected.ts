// Finds the connection of a key to which a handle refers.
import { RpcError } from '../../errors.ts';
import type { Connected } from './documents.ts';

/** Identifies a connection of a key, in a session or in none. */
export interface McpHandle {
  readonly owner: string;
  readonly sessionId: string | undefined;
  readonly name: string;
}

/**
 * A handle with a session falls back to the connection made without a session; a handle without one finds the key's
 * only connection of that name.
 */
export function findConnected(
  entries: readonly Connected[],
  { sessionId, name }: Omit<McpHandle, 'owner'>,
): Connected | undefined {
  const named = entries.filter((entry) => entry.name === name);
  const exact = named.find((entry) => isOf(entry, sessionId)) ?? named.find((entry) => entry.session_id === null);
  if (exact !== undefined || sessionId !== undefined) return exact;
  return named.length === 1 ? named[0] : undefined;
}

export function isOf({ session_id }: Connected, sessionId: string | undefined): boolean {
  return session_id === (sessionId ?? null);
}

export function notFound(): RpcError {
  return new RpcError('not_found', { message: 'Not found: no such MCP server is connected' });
}
