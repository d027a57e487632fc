// Schemas and wire forms that the mcp.* methods share.
import { z } from 'zod';
import type { McpConnection } from '../../mcp/tools/mcp-connection.ts';
import type { McpTool } from '../../mcp/tools/offer.ts';

/** The caller's name of a connection, or the operator's name of a registered server. */
export const ServerName = z
  .string()
  .regex(/^[\w.-]{1,64}$/, 'must be 1 to 64 letters, digits, dots, dashes or underscores')
  .describe('Name of the connection, chosen by the caller');

const ToolResult = z.object({
  name: z.string(),
  title: z.string().optional(),
  description: z.string().optional(),
  input_schema: z.record(z.string(), z.unknown()),
  output_schema: z.record(z.string(), z.unknown()).optional(),
  annotations: z.record(z.string(), z.unknown()).optional(),
});

export const ConnectionResult = z.object({
  name: z.string(),
  session_id: z.string().optional(),
  transport: z.enum(['stdio', 'http']),
  server: z.object({ name: z.string(), version: z.string() }).describe('Name and version that the server reports'),
  protocol_version: z.string().describe('The negotiated version of the Model Context Protocol'),
  tools: z.array(ToolResult),
  omitted_tools: z
    .array(z.object({ tool: z.string(), reason: z.string() }))
    .optional()
    .describe('Tools of the server that cannot be used, and why'),
  connected_at: z.string().describe('ISO 8601'),
});

export const EXAMPLE_CONNECTION: z.input<typeof ConnectionResult> = {
  name: 'my-mcp-server',
  session_id: 'my-session-123',
  transport: 'stdio',
  server: { name: 'mcp_server', version: '1.0.0' },
  protocol_version: '2025-11-25',
  tools: [
    {
      name: 'add',
      description: 'Adds two numbers',
      input_schema: { type: 'object', properties: { a: { type: 'number' }, b: { type: 'number' } } },
    },
  ],
  connected_at: '2026-11-13T14:20:00.000Z',
};

export function toConnectionResult(connection: McpConnection): z.input<typeof ConnectionResult> {
  const { name, sessionId, transport, server, protocolVersion, tools, omitted, connectedAtMs } = connection;
  return {
    name,
    ...(sessionId !== undefined && { session_id: sessionId }),
    transport,
    server,
    protocol_version: protocolVersion,
    tools: tools.map(toToolResult),
    ...(omitted.length > 0 && { omitted_tools: [...omitted] }),
    connected_at: new Date(connectedAtMs).toISOString(),
  };
}

function toToolResult(tool: McpTool): z.input<typeof ToolResult> {
  const { name, title, description, inputSchema, outputSchema, annotations } = tool;
  return {
    name,
    ...(title !== undefined && { title }),
    ...(description !== undefined && { description }),
    input_schema: inputSchema,
    ...(outputSchema !== undefined && { output_schema: outputSchema }),
    ...(annotations !== undefined && { annotations }),
  };
}
