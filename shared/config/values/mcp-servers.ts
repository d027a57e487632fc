// Parses the variable MCP_SERVERS of the gateway and of the sandbox service: the MCP servers that the administrator
// registers.
import { z } from 'zod';
import { inlineOrFile, url } from './fields.ts';

const absolutePath = z.string().regex(/^\/[^\0]*$/);
const McpServer = z.union([
  z.strictObject({
    command: z.string().min(1),
    args: z.array(z.string()).default([]),
    env: z.record(z.string(), z.string()).default({}),
    paths: z.array(absolutePath).default([]),
    network: z.boolean().default(false),
    in_sandbox: z.boolean().default(false),
  }),
  z.strictObject({ url, headers: z.record(z.string(), z.string()).default({}) }),
]);
const McpServers = z.record(z.string().regex(/^[\w.-]{1,64}$/), McpServer);

export type McpServerSettings = z.output<typeof McpServer>;

/** The error message contains no values, because they may be credentials. */
export function readMcpServers(text: string): ReadonlyMap<string, McpServerSettings> {
  try {
    return new Map(Object.entries(McpServers.parse(JSON.parse(inlineOrFile(text)))));
  } catch {
    throw new Error(
      'must be JSON of the form {"name": {"command": "...", "args": [], "env": {}, "paths": ["/..."], ' +
        '"network": false}} or {"name": {"url": "https://...", "headers": {}}}, URLs without user and password',
    );
  }
}
