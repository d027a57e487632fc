// The credentials of the deployment are nowhere in the sandbox service while it works for an owner in every way at
// once: not in the memory, environment or arguments of its processes, its own program included, and in none of its
// files.
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { startResponsesApi } from '../../../support/fakes/model-provider/responses-api.ts';
import type { Message } from '../../../support/fixtures/gateway/companion.ts';
import { startLocalGateway } from '../../../support/fixtures/gateway/local-gateway.ts';
import { filesBelow, placesOf } from '../../../support/fixtures/process/process-memory.ts';
import { appServers, codexProgram, descendants } from '../../../support/fixtures/sandbox/codex.ts';
import { processesWith } from '../../../support/fixtures/sandbox/sandbox.ts';
import { freshMark, TOKEN } from '../../../support/fixtures/sandbox/sandbox-ports.ts';
import { startSandboxService } from '../../../support/fixtures/sandbox/sandbox-service.ts';
import { describeWith } from '../../../support/requirements.ts';

/** Every secret contains it, so that one search of the memory finds any of them. */
const CANARY = `canary-${freshMark()}`;
const PROVIDER_KEY = `sk-${CANARY}`;
const SERVER_KEY = `server-${CANARY}`;
const GATEWAY_KEY = `key-${CANARY}`;
const HEADER = `header-${CANARY}`;
const PROMPT = 'the word of this conversation is xylophone-4711';
const MCP_SERVER = `
  hello='{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"s","version":"1"}}'
  while IFS= read -r line; do
    id=$(printf %s "$line" | sed -n 's/.*"id":\\([0-9]*\\).*/\\1/p')
    case $line in
      *'"initialize"'*) echo '{"jsonrpc":"2.0","id":'$id',"result":'$hello'}';;
      *'"tools/list"'*) echo '{"jsonrpc":"2.0","id":'$id',"result":{"tools":[]}}';;
      *'"id"'*) echo '{"jsonrpc":"2.0","id":'$id',"error":{"code":-32601,"message":"unknown"}}';;
    esac
  done # $0`;

describeWith('codex', 'the sandbox service with a turn, a command, a terminal and an MCP server of one owner', () => {
  it('a working sandbox service has no key of the gateway, of its provider or of its callers anywhere', async () => {
    const dataDir = mkdtempSync(join(tmpdir(), 'canary-'));
    const api = await startResponsesApi();
    const service = await startSandboxService({ dataDir, env: { CODEX_BIN: codexProgram() } });
    const own = { SANDBOX_URL: service.url, SANDBOX_TOKEN: TOKEN, ENGINE: 'codex', GATEWAY_API_KEY: GATEWAY_KEY };
    const backends = { BFF_BASE_URL: api.url, OPENAI_API_KEY: PROVIDER_KEY, OPENAI_BASE_URL: api.url };
    const server = { base_url: api.url, wire: 'chat', api_key: SERVER_KEY, headers: { 'x-key': SERVER_KEY } };
    const MODEL_PROVIDERS = JSON.stringify({ own: server });
    const gateway = await startLocalGateway({ env: { ...own, ...backends, MODEL_PROVIDERS } });
    const call = async (method: string, params: object): Promise<Message> => {
      const response = await fetch(`${gateway.url}/jsonrpc`, {
        method: 'POST',
        headers: { 'X-API-Key': GATEWAY_KEY, Cookie: HEADER },
        body: JSON.stringify({ jsonrpc: '2.0', id: 1, method, params }),
      });
      return response.json() as Promise<Message>;
    };
    const { promise: gate, resolve: open } = Promise.withResolvers<void>();
    try {
      api.behave(() => ({ text: 'answer', gate }));
      const arrived = api.next();
      const session_id = 'canary';
      const [command, terminal, server] = [freshMark(), freshMark(), freshMark()];
      const config = { name: 'tool', command: 'sh', args: ['-c', MCP_SERVER, server] };
      expect((await call('mcp.connect', { server_config: config, session_id: 'other' })).error).toBeUndefined();
      expect((await call('interactive.start', { session_id })).error).toBeUndefined();
      await call('interactive.input', { session_id, data: `sleep ${terminal}\r` });
      const ran = call('exec', { command: 'sleep', args: [command] });
      const answered = call('conversation.prompt', { session_id, prompt: PROMPT });
      expect((await arrived).authorization).toBe(`Bearer ${PROVIDER_KEY}`);
      const marks = [command, terminal, server];
      const running = async () => Promise.all(marks.map(async (mark) => (await processesWith(mark)).length > 0));
      await expect.poll(running).toEqual([true, true, true]);

      const pids = [service.pid ?? 0, ...descendants(() => true, service.pid)];
      expect(appServers().filter((pid) => pids.includes(pid))).toHaveLength(1);
      const held = pids.flatMap(placesOf);
      const found = (text: string): string[] => held.flatMap(([place, bytes]) => (bytes.includes(text) ? [place] : []));
      expect(found(CANARY)).toEqual([]);
      // The search finds what is there.
      expect(found(PROMPT)).not.toEqual([]);
      expect(filesBelow(dataDir).filter((file) => readFileSync(file).includes(CANARY))).toEqual([]);
      open();
      expect((await answered).result).toMatchObject({ content: 'answer' });
      await call('interactive.close', { session_id });
      // The service waits for the command, which sleeps for years.
      const sleeps = descendants(([, argument]) => argument === command, service.pid);
      for (const pid of sleeps) process.kill(pid, 'SIGKILL');
      await ran;
      await service.end();
    } finally {
      open();
      await gateway.stop();
      await service.end('SIGKILL');
      await api.close();
      rmSync(dataDir, { recursive: true, force: true });
    }
  });
});
