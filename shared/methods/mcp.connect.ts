// `mcp.connect`: connects an MCP server: a command in the key's sandbox, a URL, or a server that the operator has
// registered.
import { z } from 'zod';
import { defineMethod } from './define-method.ts';
import { ConnectionResult, EXAMPLE_CONNECTION, ServerName, toConnectionResult } from './schemas/mcp-schemas.ts';
import { SessionId } from './schemas/schemas.ts';

const TOOLS_ALLOWED_MAX = 256;
const Text = z
  .string()
  .max(32 << 10)
  .refine((text) => !text.includes('\0'), 'must not contain NUL');

const ServerConfig = z.union([
  z.strictObject({
    name: ServerName,
    command: Text.refine((text) => text !== '' && !text.includes('='), 'must be a program, without "="'),
    args: z.array(Text).max(256).default([]),
    env: z.record(z.string(), Text).default({}),
  }),
  z.strictObject({
    name: ServerName,
    url: z.url({ protocol: /^https?$/ }).max(2048),
    headers: z.record(z.string(), z.string()).default({}),
  }),
  z.strictObject({ name: ServerName }),
]);

export const mcpConnect = defineMethod({
  name: 'mcp.connect',
  summary: 'Connects an MCP server; its tools are then available to mcp.call and to the prompts of the session',
  scope: 'mcp',
  cost: 'work',
  runs: 'companion',
  params: z.strictObject({
    server_config: ServerConfig.describe(
      'A command (run in the caller’s sandbox, without network), a public URL (Streamable HTTP), or the name ' +
        'of a registered server',
    ),
    session_id: SessionId.optional().describe('Session whose prompts may use the tools'),
    allowed_tools: z
      .array(z.string().min(1).max(256))
      .max(TOOLS_ALLOWED_MAX)
      .optional()
      .describe('Only these tools; default: all'),
  }),
  result: ConnectionResult,
  errors: [
    'sandbox_unavailable',
    'forbidden',
    'not_found',
    'conflict',
    'upstream_error',
    'upstream_timeout',
    'unavailable',
  ],
  example: {
    params: {
      server_config: { name: 'my-mcp-server', command: 'python', args: ['-m', 'mcp_server'] },
      session_id: 'my-session-123',
    },
    result: EXAMPLE_CONNECTION,
  },
  async handle(params, { services, caller, signal, requestId }) {
    const { server_config: config, session_id: sessionId, allowed_tools: allowedTools } = params;
    const handle = { owner: caller.keyId, sessionId, name: config.name };
    const connection = await services.mcp.connect(handle, { config, allowedTools, requestId, signal });
    if (sessionId !== undefined) {
      await services.conversations.markCompanionState({ owner: caller.keyId, sessionId }, 'mcp', { isStarted: true });
    }
    return toConnectionResult(connection);
  },
});
