// `mcp.list`: lists the MCP servers that this key has connected.
import { hash } from 'node:crypto';
import { z } from 'zod';
import type { McpConnection } from '../mcp/tools/mcp-connection.ts';
import { createPage } from '../rpc/page.ts';
import { decodeCursor, encodeCursor } from '../store/cursor.ts';
import { defineMethod } from './define-method.ts';
import { ConnectionResult, EXAMPLE_CONNECTION, toConnectionResult } from './schemas/mcp-schemas.ts';
import { Cursor, SessionId } from './schemas/schemas.ts';

/** Time of the connection, and a hash of its session and name, which orders connections of the same time. */
const Position = z.tuple([z.int().min(0), z.string().max(64)]);

export const mcpList = defineMethod({
  name: 'mcp.list',
  summary: 'Lists the MCP servers that this key has connected; a page ends at 1 MiB',
  scope: 'mcp',
  cost: 'read',
  isBulky: true,
  runs: 'companion',
  params: z.strictObject({
    session_id: SessionId.optional().describe('Only servers of this session'),
    cursor: Cursor.optional(),
  }),
  result: z.object({
    servers: z.array(ConnectionResult),
    next_cursor: z.string().optional().describe('Present if there are more'),
  }),
  example: { params: {}, result: { servers: [EXAMPLE_CONNECTION] } },
  async handle({ session_id, cursor }, { services, caller, signal, answerBytesMax }) {
    if (cursor === undefined) await services.mcp.refresh(caller.keyId, session_id, signal);
    const start = cursor === undefined ? undefined : decodeCursor(cursor, Position);
    const listed = await services.mcp.list(caller.keyId, session_id);
    const connections = listed
      .map((connection) => ({ connection, position: positionOf(connection) }))
      .sort((one, other) => compare(one.position, other.position))
      .filter(({ position }) => start === undefined || compare(position, start) > 0);
    const page = createPage<z.input<typeof ConnectionResult>>();
    const refused = connections.findIndex(({ connection }) => !page.add(toConnectionResult(connection)));
    const last = refused === -1 ? undefined : connections[refused - 1];
    const nextCursor = last && encodeCursor(last.position);
    page.check(answerBytesMax, nextCursor, { name: page.items[0]?.name });
    return { servers: [...page.items], ...(nextCursor !== undefined && { next_cursor: nextCursor }) };
  },
});

function positionOf({ connectedAtMs, sessionId = '', name }: McpConnection): z.output<typeof Position> {
  return [Math.floor(connectedAtMs), hash('sha256', `${sessionId}\n${name}`, 'base64url')];
}

function compare(one: z.output<typeof Position>, other: z.output<typeof Position>): number {
  const byTime = one[0] - other[0];
  if (byTime !== 0) return byTime;
  return one[1] < other[1] ? -1 : Number(one[1] > other[1]);
}
