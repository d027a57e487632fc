// An MCP server over stdio whose first argument selects its behaviour: `modern` is the SDK's own of the 2026-07-28 era
// and refuses the older one; the others are written by hand, of the older era, to do what no SDK would. Independent of
// the gateway.
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { McpServer } from '@modelcontextprotocol/server';
import { serveStdio } from '@modelcontextprotocol/server/stdio';
import { z } from 'zod';

const [, , mode = 'modern', marker = ''] = process.argv;
if (mode === 'modern') serveStdio(createModernServer, { legacy: 'reject' });
else serveByHand();

function createModernServer(): McpServer {
  const server = new McpServer({ name: 'modern', version: '2.0.0' }, { capabilities: { tools: {} } });
  server.registerTool(
    'add',
    { description: 'Adds', inputSchema: z.object({ a: z.number(), b: z.number() }) },
    async ({ a, b }) => ({ content: [{ type: 'text', text: String(a + b) }] }),
  );
  return server;
}

/**
 * `fragile` exits at any request before initialize; `mute` leaves them unanswered; `loud` prints lines that are not
 * JSON; `huge`, `deep`, `failing`, `slow` and `digits` differ in their answer to a call; `many` offers 300 tools, `odd`
 * malformed ones, `growing` one more with each call; `unread` sends requests without end and reads no answers; `family`
 * leaves a daemon.
 */
function serveByHand(): void {
  if (mode === 'family') spawn('setsid', ['sleep', marker], { stdio: 'ignore', detached: true }).unref();
  if (mode === 'loud') process.stdout.write('Server starting...\n{"not": "a message"}\n');
  let isReady = false;
  createInterface({ input: process.stdin }).on('line', (line) => {
    const { id, method, params } = JSON.parse(line) as { id?: number; method: string; params?: { arguments?: object } };
    if (method === 'initialize') isReady = true;
    if (!isReady && mode === 'fragile') process.exit(3);
    if (!isReady && mode === 'mute') return;
    if (id === undefined) return;
    if (method === 'initialize') {
      const serverInfo = { name: mode, version: '1.0.0' };
      return answer(id, { protocolVersion: '2025-06-18', capabilities: { tools: {} }, serverInfo });
    }
    if (method === 'tools/list') return answer(id, { tools: toTools() });
    if (method === 'tools/call') return answerCall(id, params?.arguments);
    send({ id, error: { code: -32601, message: 'Method not found' } });
  });
}

let calls = 0;

function toTools(): object[] {
  if (mode === 'odd') return oddTools();
  const count = mode === 'many' ? 300 : mode === 'growing' ? 1 + calls : 1;
  return Array.from({ length: count }, (_, index) => ({
    name: index === 0 ? 'act' : `act-${index}`,
    inputSchema: { type: 'object' },
    // A pattern that would run without end on the tool's result.
    outputSchema: { type: 'object', properties: { text: { type: 'string', pattern: '^(a+)+$' } } },
  }));
}

/** Each is malformed in a different way, except the first and the last. */
function oddTools(): object[] {
  let deep: object = {};
  for (let level = 0; level < 100; level++) deep = { type: 'object', properties: { a: deep } };
  const tool = (name: unknown, inputSchema: unknown, more = {}) => ({ name, inputSchema, ...more });
  const odd: unknown[] = [
    tool('act', { type: 'object' }),
    'no tool',
    tool(7, {}),
    tool('act', { type: 'object' }),
    tool('deep', deep),
    tool('text', 'no schema'),
    tool('a'.repeat(300), {}),
    tool('untyped', { properties: { a: {} } }, { title: 7, annotations: [], outputSchema: 'x' }),
    tool('broken', { type: 'object', properties: [], required: 'a' }),
    tool('list', { type: 'array', items: {} }),
    tool('missing', undefined),
    tool('bounded', { type: 'object', properties: { n: { type: 'integer', maximum: 'MAX', default: 'MAX' } } }),
    tool('exact', { type: 'object', properties: { n: { enum: ['MAX'] } } }),
    tool('find_page', {
      type: 'object',
      properties: { id: { type: 'string' }, title: { type: 'string' }, 'filter[kind]': { type: 'string' } },
      anyOf: [{ required: ['id'] }, { required: ['title'] }],
    }),
    tool('last', { type: 'object' }),
  ];
  return odd as object[];
}

function answerCall(id: number, args: unknown): void {
  calls++;
  const text = (value: string) => ({ content: [{ type: 'text', text: value }] });
  switch (mode) {
    case 'slow':
      break;
    case 'failing':
      send({ id, error: { code: -32000, message: 'no such luck' } });
      break;
    case 'huge':
      answer(id, text('x'.repeat(5 << 20)));
      break;
    case 'deep': {
      const nested = `${'{"a":'.repeat(20_000)}1${'}'.repeat(20_000)}`;
      process.stdout.write(`{"jsonrpc":"2.0","id":${id},"result":{"content":[],"structuredContent":${nested}}}\n`);
      break;
    }
    case 'digits':
      process.stdout.write(
        `{"jsonrpc":"2.0","id":${id},"result":{"content":[{"type":"text","text":"x","_meta":{"n":9007199254740993}}],` +
          '"structuredContent":{"id":9007199254740993,"rate":1.0000000000000000001,"small":0.5}}}\n',
      );
      break;
    case 'odd':
      answer(id, text(JSON.stringify(args)));
      break;
    case 'growing':
      answer(id, text('grown'));
      for (let n = 0; n < 5; n++) send({ method: 'notifications/tools/list_changed' });
      break;
    case 'unread':
      process.stdin.pause();
      sendRequestsForEver();
      break;
    default:
      answer(id, { ...text(mode), structuredContent: { text: `${'a'.repeat(40)}!` } });
  }
}

function sendRequestsForEver(): void {
  for (let n = 0; n < 200; n++) send({ id: `${n}-${'y'.repeat(1 << 16)}`, method: 'ping' });
  setTimeout(sendRequestsForEver, 1);
}

function answer(id: number, result: object): void {
  send({ id, result });
}

function send(message: object): void {
  const text = JSON.stringify({ jsonrpc: '2.0', ...message }).replaceAll('"MAX"', '9223372036854775807');
  process.stdout.write(`${text}\n`);
}
