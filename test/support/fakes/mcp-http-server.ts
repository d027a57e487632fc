// An MCP server of the older protocol era over Streamable HTTP, without an SDK: it keeps sessions, and deletes them
// when a test requests that.
import { randomUUID } from 'node:crypto';
import type { IncomingHttpHeaders, RequestListener, ServerResponse } from 'node:http';

export interface FakeMcpServer {
  readonly listener: RequestListener;
  /** Methods of the requests that came, with their headers. */
  readonly seen: { readonly method: string; readonly headers: IncomingHttpHeaders }[];
  tools: object[];
  /** The JSON text of the result of a call. */
  result: string;
  /** Calls are answered after it. */
  hold?: Promise<void>;
  /** `stream`: results come as events. */
  readonly behaviour: { stream: boolean; forgetAfterInitialize: boolean; goneStatus: 404 | 400 };
  forget(): void;
  /** Announces new tools on the open streams; resolves to how many there are. */
  announce(): number;
  count(method: string): number;
}

export function createFakeMcpServer(): FakeMcpServer {
  const sessions = new Set<string>();
  const streams = new Set<ServerResponse>();
  const fake: FakeMcpServer = {
    seen: [],
    tools: [{ name: 'act', inputSchema: { type: 'object' } }],
    result: '{"content":[{"type":"text","text":"done"}]}',
    behaviour: { stream: false, forgetAfterInitialize: false, goneStatus: 404 },
    forget() {
      sessions.clear();
      for (const stream of streams) stream.end();
    },
    announce() {
      for (const stream of streams) {
        stream.write('data: {"jsonrpc":"2.0","method":"notifications/tools/list_changed"}\n\n');
      }
      return streams.size;
    },
    count: (method) => fake.seen.filter((one) => one.method === method).length,
    async listener(req, res) {
      const chunks: Buffer[] = [];
      for await (const chunk of req) chunks.push(chunk);
      const { id, method = req.method ?? '' } = JSON.parse(Buffer.concat(chunks).toString() || '{}') as {
        id?: number;
        method?: string;
      };
      fake.seen.push({ method, headers: req.headers });
      const json = (status: number, text: string, headers = {}) =>
        res.writeHead(status, { 'content-type': 'application/json', ...headers }).end(text);
      if (method === 'initialize') {
        const session = randomUUID();
        if (!fake.behaviour.forgetAfterInitialize || fake.count('initialize') === 1) sessions.add(session);
        const result = {
          protocolVersion: '2025-06-18',
          capabilities: { tools: { listChanged: true } },
          serverInfo: { name: 'fake', version: '1' },
        };
        return json(200, JSON.stringify({ jsonrpc: '2.0', id, result }), { 'mcp-session-id': session });
      }
      const error = { code: -32000, message: 'Bad Request: No valid session ID provided' };
      if (!sessions.has(String(req.headers['mcp-session-id'])) && !method.startsWith('notifications/')) {
        const status = req.headers['mcp-session-id'] === undefined ? 400 : fake.behaviour.goneStatus;
        return json(status, JSON.stringify({ jsonrpc: '2.0', id: null, error }));
      }
      if (method === 'GET') {
        streams.add(res.writeHead(200, { 'content-type': 'text/event-stream' }));
        res.flushHeaders();
        res.on('close', () => streams.delete(res));
        return;
      }
      if (id === undefined) return res.writeHead(202).end();
      if (method === 'tools/call') await fake.hold;
      const result = method === 'tools/list' ? JSON.stringify({ tools: fake.tools }) : fake.result;
      const text = `{"jsonrpc":"2.0","id":${id},"result":${result}}`;
      if (!fake.behaviour.stream) return json(200, text);
      res.writeHead(200, { 'content-type': 'text/event-stream' });
      for (const byte of `event: message\r\ndata: ${text}\r\n\r\n`) res.write(byte);
      res.end();
    },
  };
  return fake;
}
