// `mcp.list`: the MCP servers this key has connected.
import { z } from 'zod';
import { defineMethod } from './define-method.ts';
import { ConnectionResult, EXAMPLE_CONNECTION, toConnectionResult } from './mcp-schemas.ts';
import { SessionId } from './schemas.ts';

export const mcpList = defineMethod({
  name: 'mcp.list',
  summary: 'Lists the MCP servers that this key has connected',
  scope: 'mcp',
  cost: 'read',
  runs: 'companion',
  params: z.strictObject({ session_id: SessionId.optional().describe('Only those of this session') }),
  result: z.object({ servers: z.array(ConnectionResult) }),
  example: { params: {}, result: { servers: [EXAMPLE_CONNECTION] } },
  async handle(params, { services, caller }) {
    return { servers: services.mcp.list(caller.keyId, params.session_id).map(toConnectionResult) };
  },
});
