// The documents of stored MCP connections: one small document per key with the list of its connections, which every
// call reads; and one document per connection with its configuration and the tools of the server.
import { z } from 'zod';
import { Envelope } from '../../auth/logins/envelope.ts';
import { type DocumentOf, defineDocument, hashOwner, type StoredAs } from '../../store/define-document.ts';

const Connected = z.object({
  /** Id of the connection. Connecting the same name again creates another id. */
  id: z.string(),
  name: z.string(),
  session_id: z.string().nullable(),
  transport: z.enum(['stdio', 'http']),
  /** Renewed by calls. */
  expires_at_ms: z.number(),
  /** When the document of the connection expires. */
  stored_until_ms: z.number(),
  /** Id of the run of the sandbox in which the process was last started; null for a URL. */
  boot_id: z.string().nullable(),
  /** Id of the run of the sandbox in which the process ended by itself. In one run, it is started again only once. */
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
  owned: { idOf: hashOwner },
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
    /** JSON text of the configuration of a registered server, which contains no secret of the caller. */
    configuration: z.string().nullable(),
    /** The encrypted configuration of other servers: arguments, variables, URL and headers may contain secrets. */
    sealed: Envelope.nullable(),
  }),
  owned: { orderBy: 'connected_at_ms' },
  secret: ['sealed', 'configuration'],
  id: 'id of the connection',
  holds: 'configuration of an MCP server (envelope-encrypted) and its tools',
  writtenBy: '`mcp.connect`',
  kept: '7 days, renewed while it is used',
});
export type McpConnectionDocument = DocumentOf<typeof McpConnections>;
