// An MCP server over stdio, well or badly behaved as its first argument says: `modern` is the SDK's own of the 2026-07-28 era and refuses
// the older one; the others are written out by hand, of the older era, to do what no SDK would. Knows nothing of the gateway.
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
 * `fragile` ends at any request before initialize; `mute` leaves them unanswered; `loud` prints what is no JSON; `huge`, `deep`, `failing`
 * and `slow` say how a call is answered; `many` offers 300 tools; `deaf` asks all the time and reads no answers; `family` leaves a daemon.
 */
function serveByHand(): void {
  if (mode === 'family') spawn('setsid', ['sleep', marker], { stdio: 'ignore', detached: true }).unref();
  if (mode === 'loud') process.stdout.write('Server starting...\n{"not": "a message"}\n');
  let isReady = false;
  createInterface({ input: process.stdin }).on('line', (line) => {
    const { id, method } = JSON.parse(line) as { id?: number; method: string };
    if (method === 'initialize') isReady = true;
    if (!isReady && mode === 'fragile') process.exit(3);
    if (!isReady && mode === 'mute') return;
    if (id === undefined) return;
    if (method === 'initialize') {
      const serverInfo = { name: mode, version: '1.0.0' };
      return answer(id, { protocolVersion: '2025-06-18', capabilities: { tools: {} }, serverInfo });
    }
    if (method === 'tools/list') return answer(id, { tools: toTools() });
    if (method === 'tools/call') return answerCall(id);
    say({ id, error: { code: -32601, message: 'Method not found' } });
  });
}

function toTools(): object[] {
  const count = mode === 'many' ? 300 : 1;
  return Array.from({ length: count }, (_, index) => ({
    name: index === 0 ? 'act' : `act-${index}`,
    inputSchema: { type: 'object' },
    // A pattern that would never end, were anybody to run it on what the tool answers.
    outputSchema: { type: 'object', properties: { text: { type: 'string', pattern: '^(a+)+$' } } },
  }));
}

function answerCall(id: number): void {
  const text = (value: string) => ({ content: [{ type: 'text', text: value }] });
  switch (mode) {
    case 'slow':
      break;
    case 'failing':
      say({ id, error: { code: -32000, message: 'no such luck' } });
      break;
    case 'huge':
      answer(id, text('x'.repeat(5 << 20)));
      break;
    case 'deep': {
      const nested = `${'{"a":'.repeat(20_000)}1${'}'.repeat(20_000)}`;
      process.stdout.write(`{"jsonrpc":"2.0","id":${id},"result":{"content":[],"structuredContent":${nested}}}\n`);
      break;
    }
    case 'deaf':
      process.stdin.pause();
      askForEver();
      break;
    default:
      answer(id, { ...text(mode), structuredContent: { text: `${'a'.repeat(40)}!` } });
  }
}

function askForEver(): void {
  for (let n = 0; n < 200; n++) say({ id: `${n}-${'y'.repeat(1 << 16)}`, method: 'ping' });
  setTimeout(askForEver, 1);
}

function answer(id: number, result: object): void {
  say({ id, result });
}

function say(message: object): void {
  process.stdout.write(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`);
}
