// `mcp.disconnect`: ends a connection; the server's process has ended when the call returns.
import { z } from 'zod';
import { defineMethod } from './define-method.ts';
import { ServerName } from './schemas/mcp-schemas.ts';
import { SessionId } from './schemas/schemas.ts';

export const mcpDisconnect = defineMethod({
  name: 'mcp.disconnect',
  summary: 'Ends the connection to an MCP server, and the process of a server with a command',
  scope: 'mcp',
  cost: 'work',
  runs: 'companion',
  params: z.strictObject({ name: ServerName, session_id: SessionId.optional() }),
  result: z.object({ disconnected: z.literal(true), name: z.string(), session_id: z.string().optional() }),
  errors: ['not_found'],
  example: {
    params: { name: 'my-mcp-server', session_id: 'my-session-123' },
    result: { disconnected: true, name: 'my-mcp-server', session_id: 'my-session-123' },
  },
  async handle({ name, session_id }, { services, caller }) {
    const { mcp, conversations } = services;
    const owner = caller.keyId;
    const { handle, isLast } = await mcp.disconnect({ owner, sessionId: session_id, name });
    const { sessionId } = handle;
    if (sessionId !== undefined && isLast) {
      await conversations.clearCompanionState({ owner, sessionId }, 'mcp');
    }
    return { disconnected: true as const, name, ...(sessionId !== undefined && { session_id: sessionId }) };
  },
});
