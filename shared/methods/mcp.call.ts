// `mcp.call`: calls one tool of a connected MCP server.
import { z } from 'zod';
import { defineMethod } from './define-method.ts';
import { ServerName } from './schemas/mcp-schemas.ts';
import { SessionId } from './schemas/schemas.ts';

const TIMEOUT_MS = 60_000;
const TIMEOUT_MS_MAX = 300_000;

export const mcpCall = defineMethod({
  name: 'mcp.call',
  summary: 'Calls a tool of a connected MCP server',
  scope: 'mcp',
  cost: 'work',
  runs: 'companion',
  params: z.strictObject({
    name: ServerName,
    tool: z.string().min(1).max(256),
    arguments: z.record(z.string(), z.unknown()).default({}),
    session_id: SessionId.optional().describe('The session of the connection'),
    timeout_ms: z.int().min(1).max(TIMEOUT_MS_MAX).default(TIMEOUT_MS),
  }),
  result: z.object({
    name: z.string(),
    tool: z.string(),
    content: z.array(z.record(z.string(), z.unknown())).describe('Content blocks of the Model Context Protocol'),
    structured_content: z
      .unknown()
      .optional()
      .describe('An object; JSON text if parsing would lose digits of a number'),
    is_error: z.boolean().describe('The tool ran and reported a failure'),
    duration_ms: z.int(),
  }),
  errors: ['not_found', 'upstream_error', 'upstream_timeout', 'unavailable', 'cancelled'],
  example: {
    params: { name: 'my-mcp-server', tool: 'add', arguments: { a: 2, b: 3 }, session_id: 'my-session-123' },
    result: {
      name: 'my-mcp-server',
      tool: 'add',
      content: [{ type: 'text', text: '5' }],
      is_error: false,
      duration_ms: 3,
    },
  },
  async handle(params, { services, caller, signal }) {
    const { name, tool, session_id: sessionId, timeout_ms: timeoutMs } = params;
    const startedMs = performance.now();
    const result = await services.mcp.call(
      { owner: caller.keyId, sessionId, name },
      { tool, arguments: params.arguments, timeoutMs, signal },
    );
    return {
      name,
      tool,
      content: result.content.map((block) => ({ ...block })),
      ...(result.structuredContent !== undefined && { structured_content: result.structuredContent }),
      is_error: result.isError === true,
      duration_ms: Math.round(performance.now() - startedMs),
    };
  },
});
