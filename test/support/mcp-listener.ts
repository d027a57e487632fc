// The MCP SDK's own stateless server behind node:http, with one tool, `add`: what suites connect to over Streamable
// HTTP.
import type { RequestListener } from 'node:http';
import { createMcpHandler, McpServer } from '@modelcontextprotocol/server';
import { z } from 'zod';

/** `name` is the server's own; `legacy: 'reject'` refuses the era before the stateless one. */
export function createMcpListener(name: string, options: Parameters<typeof createMcpHandler>[1] = {}): RequestListener {
  const handler = createMcpHandler(() => {
    const server = new McpServer({ name, version: '2.0.0' }, { capabilities: { tools: {} } });
    const inputSchema = z.object({ a: z.number(), b: z.number() });
    server.registerTool('add', { description: 'Adds', inputSchema }, async ({ a, b }) => ({
      content: [{ type: 'text', text: String(a + b) }],
    }));
    return server;
  }, options);
  return async (req, res) => {
    const chunks: Buffer[] = [];
    for await (const chunk of req) chunks.push(chunk);
    const headers = new Headers();
    for (const [header, value] of Object.entries(req.headers)) headers.set(header, String(value));
    const answer = await handler.fetch(
      new Request(`http://${req.headers.host}${req.url}`, {
        method: req.method ?? 'POST',
        headers,
        ...(chunks.length > 0 && { body: Buffer.concat(chunks) }),
      }),
    );
    res.writeHead(answer.status, Object.fromEntries(answer.headers));
    res.end(Buffer.from(await answer.arrayBuffer()));
  };
}
