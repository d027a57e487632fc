// The stored MCP connections: one small document of each key that says which there are, which every call reads, and one
// document of each connection with its configuration and the tools that the server offered.
import { z } from 'zod';
import { Envelope } from '../auth/logins/envelope.ts';
import { type DocumentOf, defineDocument, type StoredAs } from '../store/define-document.ts';

const Connected = z.object({
  /** Of the connection; another connect with the same name has another id. */
  id: z.string(),
  name: z.string(),
  session_id: z.string().nullable(),
  transport: z.enum(['stdio', 'http']),
  /** Renewed by calls. */
  expires_at_ms: z.number(),
  /** Until when its own document is stored. */
  stored_until_ms: z.number(),
  /** The run of the sandbox in which its process was last started; null for a URL. */
  boot_id: z.string().nullable(),
  /** The run of the sandbox in which its process has ended by itself: it is started again there only once. */
  ended_boot_id: z.string().exactOptional(),
});
export type Connected = StoredAs<typeof Connected>;

export const McpOwners = defineDocument({
  collection: 'mcp_owners',
  schema: z.object({
    /** Key id. */
    owner: z.string(),
    connections: z.array(Connected),
  }),
  id: 'hash of key id',
  holds: 'which MCP servers a key has connected',
  writtenBy: '`mcp.connect`, `mcp.disconnect`, `mcp.call`, prompts',
  kept: 'about 15 min after the last call',
});

export const McpConnections = defineDocument({
  collection: 'mcp_connections',
  schema: z.object({
    /** Key id. */
    owner: z.string(),
    server: z.object({ name: z.string(), version: z.string() }),
    protocol_version: z.string(),
    connected_at_ms: z.number(),
    /** JSON text of the tools. */
    offer: z.string(),
    /** JSON text of what the caller requested, for a registered server, which has no secret of the caller's. */
    configuration: z.string().nullable(),
    /** The same for other servers: arguments, variables, URL and headers may be secrets. */
    sealed: Envelope.nullable(),
  }),
  id: 'id of the connection',
  holds: 'configuration of an MCP server (envelope-encrypted) and its tools',
  writtenBy: '`mcp.connect`',
  kept: '7 days, renewed while it is used',
});
export type McpConnectionDocument = DocumentOf<typeof McpConnections>;
