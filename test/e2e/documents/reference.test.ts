// The clients of the reference document work against the real local gateway as they are printed there, except for the
// lines that say where the gateway is and fetch its key. test/support/fixtures/reference contains their texts.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type ModelProvider, startModelProvider } from '../../support/fakes/model-provider/model-provider.ts';
import { withoutSandbox } from '../../support/fixtures/gateway/console.ts';
import { startInProcess } from '../../support/fixtures/gateway/in-process.ts';
import { type LocalGateway, startLocalGateway } from '../../support/fixtures/gateway/local-gateway.ts';
import { describeWith, findPython } from '../../support/requirements.ts';

const KEY = 'reference-key';
const REFERENCE = join(import.meta.dirname, '../../support/fixtures/reference');
const scratch = mkdtempSync(join(tmpdir(), 'reference-'));
/** The backend of bff.proxy, and where ChatGPT's tokens are checked. */
const backend = createServer((req, res) => {
  res.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify({ url: req.url }));
});
let provider: ModelProvider;
let gateway: LocalGateway;
beforeAll(async () => {
  backend.listen(0, '127.0.0.1');
  [provider] = await Promise.all([startModelProvider(), once(backend, 'listening')]);
  const BFF_BASE_URL = `http://127.0.0.1:${(backend.address() as AddressInfo).port}`;
  gateway = await startLocalGateway({
    env: { GATEWAY_API_KEY: KEY, BFF_BASE_URL, CHATGPT_BASE_URL: provider.url },
  });
});
afterAll(async () => {
  await gateway.stop();
  await provider.close();
  backend.close();
  rmSync(scratch, { recursive: true });
});

/** The printed text with some of its lines replaced: each must be there. */
function adapt(file: string, lines: Readonly<Record<string, string>>): string {
  let program = readFileSync(join(REFERENCE, file), 'utf8');
  for (const [printed, ours] of Object.entries(lines)) {
    expect(program).toContain(printed);
    program = program.replace(printed, () => ours);
  }
  const path = join(scratch, file.replace(/\.txt$/, ''));
  writeFileSync(path, program);
  return path;
}

async function run(command: string, args: readonly string[]): Promise<string> {
  const child = spawn(command, args, {
    env: { PATH: process.env.PATH, GATEWAY_URL: gateway.url, GATEWAY_KEY: KEY, LANG: 'C.UTF-8' },
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: 30_000,
  });
  const ended = once(child, 'close');
  const [stdout, stderr] = await Promise.all([text(child.stdout), text(child.stderr)]);
  const [code] = await ended;
  expect(code, `${stdout}${stderr}`).toBe(0);
  return stdout;
}

const WHERE = '"https://wrapper-uamdjcvg7q-uc.a.run.app"';

describeWith('shell', 'the shell', () => {
  it('the reference’s test_gateway.sh prints only successes and one expected method-not-found', async () => {
    const script = adapt('test_gateway.sh', {
      [`GATEWAY_URL=${WHERE}`]: '',
      'GATEWAY_KEY=$(gcloud secrets versions access latest --secret=gateway-api-key)': '',
    });
    const output = await run('bash', [script]);
    expect(output.match(/✓ Health check passed/g)).toHaveLength(1);
    expect(output.match(/✓ Success/g)).toHaveLength(4);
    expect(output).not.toMatch(/✗|Failed/);
    expect(output).toContain('All tests completed!');
    expect(output.match(/"code": -?\d+/g)).toEqual(['"code": -32601']);
    expect(output.match(/"reason": "\w+"/g)).toEqual(['"reason": "method_not_found"']);
    expect(output).toContain('"cancelled": true');
  });

  it('the requests of the reference are answered with every field that it shows', async () => {
    const script = adapt('requests.sh', {});
    const [health, prompt, status, cancel, webhook, ...more] = (await run('bash', [script]))
      .split('\n')
      .filter((line) => line !== '')
      .map((line): unknown => JSON.parse(line));
    expect(more).toEqual([]);
    expect(health).toEqual({ status: 'healthy' });
    const iso = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
    expect(prompt).toMatchObject({
      jsonrpc: '2.0',
      id: 1,
      result: {
        type: 'ai_response',
        conversation_id: expect.stringMatching(/^conv_\w+$/),
        content: expect.stringContaining('Write a Rust function that adds two numbers'),
        model: 'offline/echo',
        timestamp: iso,
        session_id: 'my-session-123',
      },
    });
    const { conversation_id, events } = resultOf(prompt);
    expect((events as readonly object[]).flatMap(Object.keys)).toEqual(
      expect.arrayContaining(['TaskStarted', 'AgentMessage', 'TaskComplete']),
    );
    expect(events).toContainEqual({ AgentMessage: expect.objectContaining({ message: resultOf(prompt).content }) });
    expect(status).toMatchObject({
      id: 2,
      result: { conversation_id, metadata: { model: 'offline/echo', created_at: iso }, status: 'idle' },
    });
    expect(cancel).toMatchObject({
      id: 3,
      result: { cancelled: true, session_id: 'my-session-123', conversation_id, was_running: false },
    });
    expect(webhook).toMatchObject({ status: 'accepted', duplicate: false });
    // The fields that the reference shows come first, in its order.
    expect(Object.keys(resultOf(prompt)).slice(0, 6)).toEqual([
      ...['type', 'conversation_id', 'content', 'model', 'timestamp', 'events'],
    ]);
    expect(Object.keys(resultOf(status)).slice(0, 2)).toEqual(['conversation_id', 'metadata']);
    expect(Object.keys(Object(resultOf(status).metadata)).slice(0, 2)).toEqual(['model', 'created_at']);
    expect(Object.keys(resultOf(cancel)).slice(0, 3)).toEqual(['cancelled', 'session_id', 'conversation_id']);
  });
});

describe('the requests for what the reference announces as planned', () => {
  const PLANNED: readonly { readonly id: number; readonly method: string }[] = JSON.parse(
    readFileSync(join(REFERENCE, 'planned.json'), 'utf8'),
  );
  const send = async (method: string, url = gateway.url): Promise<unknown> => {
    const response = await fetch(`${url}/jsonrpc`, {
      method: 'POST',
      headers: { 'X-API-Key': KEY, 'Content-Type': 'application/json' },
      body: JSON.stringify(PLANNED.find((call) => call.method === method)),
    });
    return response.json();
  };

  it('the requests planned by the reference get a result as printed, and a patch of three dots an error', async () => {
    expect(await send('proto')).toMatchObject({ jsonrpc: '2.0', id: 2, result: { stream_id: 'session-123' } });
    expect(await send('auth.login')).toMatchObject({ jsonrpc: '2.0', id: 6, result: { provider: 'chatgpt' } });
    expect(provider.checks.seen.at(-1)?.headers.authorization).toBe('Bearer user-token-from-chatgpt');
    const logout = await send('auth.logout');
    expect(logout).toMatchObject({ id: 7, result: { logged_out: false, session_id: 'session-xyz' } });
    const proxied = { status: 200, body: { url: '/api/users?page=1&limit=10' } };
    expect(await send('bff.proxy')).toMatchObject({ id: 8, result: proxied });
    const apply = await send('apply');
    expect(apply).toMatchObject({ id: 4, error: { code: expect.any(Number), data: { retryable: false } } });
  });

  it('the requests planned by the reference get 403 with the reason where there is no sandbox', async () => {
    const bare = await startInProcess({ GATEWAY_API_KEY: KEY }, withoutSandbox());
    for (const method of ['exec', 'mcp.connect', 'interactive.start']) {
      const response = await send(method, bare.url);
      expect(response, method).toMatchObject({ error: { code: 403, data: { reason: 'sandbox_unavailable' } } });
    }
    await bare.close();
  });

  describeWith('bubblewrap', 'with a sandbox', () => {
    it('the planned requests run the command and the terminal as printed, and report the missing MCP server', async () => {
      const exec = await send('exec');
      const output = { stdout: 'Hello from Codex Gateway\n', stderr: '', exit_code: 0 };
      expect(exec).toMatchObject({ jsonrpc: '2.0', id: 1, result: output });
      expect(Object.keys(resultOf(exec)).slice(0, 3)).toEqual(['stdout', 'stderr', 'exit_code']);
      // The sandbox has no such module, and possibly no Python.
      expect(await send('mcp.connect')).toMatchObject({
        id: 3,
        error: { code: 502, data: { server: 'my-mcp-server' } },
      });
      const terminal = { session_id: 'tty-session-456', cols: 80, rows: 24 };
      expect(await send('interactive.start')).toMatchObject({ id: 5, result: terminal });
    });
  });
});

describeWith('python', 'the Python client', () => {
  it('the Python client of the reference runs to its end with Debian’s requests', async () => {
    const script = adapt('gateway_client.py', { [`GATEWAY_URL = ${WHERE}`]: 'GATEWAY_URL = os.getenv("GATEWAY_URL")' });
    const output = await run(findPython() ?? 'python3', [script]);
    expect(output.match(/^=== .* ===$/gm)).toHaveLength(5);
    expect(output).toContain('"status": "healthy"');
    expect(output).toContain('"type": "ai_response"');
    expect(output).toContain('"cancelled": true');
    expect(output.match(/"code": -?\d+/g)).toEqual(['"code": -32601']);
    expect(output).not.toContain('Error:');
  });

  it('the Python client sends webhooks', async () => {
    const module = adapt('gateway_client.py', {});
    const call = `client.webhook("deployment.success", {"service": "py", "region": "us-central1", "status": "healthy"})`;
    const output = await run(findPython() ?? 'python3', [
      '-c',
      `import os, sys, json; sys.path.insert(0, ${JSON.stringify(join(module, '..'))})
from gateway_client import CodexGatewayClient
client = CodexGatewayClient(os.getenv("GATEWAY_URL"), os.getenv("GATEWAY_KEY"))
print(json.dumps(${call}))`,
    ]);
    expect(JSON.parse(output)).toMatchObject({ status: 'accepted', duplicate: false, event_id: expect.any(String) });
  });
});

describe('the TypeScript client', () => {
  it('the documented TypeScript client runs to its end', async () => {
    const script = adapt('gateway-client.ts.txt', {
      "const GATEWAY_URL = 'https://wrapper-uamdjcvg7q-uc.a.run.app'": 'const GATEWAY_URL = process.env.GATEWAY_URL!',
    });
    const output = await run(process.execPath, [script]);
    expect(output).toContain("Health: { status: 'healthy' }");
    expect(output).toMatch(/AI Result: .*type: 'ai_response'/s);
    expect(output).toMatch(/Status: .*metadata: \{/s);
    expect(output).toMatch(/Cancelled: .*cancelled: true/s);
  });

  it('the TypeScript client is answered in the browser example’s way: data.result holds the answer', async () => {
    const id = Date.now();
    const response = await fetch(`${gateway.url}/jsonrpc`, {
      method: 'POST',
      headers: { 'X-API-Key': KEY, 'Content-Type': 'application/json' },
      body: JSON.stringify({
        jsonrpc: '2.0',
        method: 'conversation.prompt',
        params: { prompt: 'Hi', session_id: 'web' },
        id,
      }),
    });
    expect(await response.json()).toMatchObject({ id, result: { type: 'ai_response', content: expect.any(String) } });
    for (const name of ['limit', 'remaining', 'reset']) {
      expect(response.headers.get(`x-ratelimit-${name}`)).toMatch(/^\d+$/);
    }
  });

  it('a body that is no JSON has the reference’s parse error', async () => {
    const response = await fetch(`${gateway.url}/jsonrpc`, {
      method: 'POST',
      headers: { 'X-API-Key': KEY },
      body: '{',
    });
    expect(await response.json()).toMatchObject({
      jsonrpc: '2.0',
      error: { code: -32700, message: 'Parse error' },
      id: null,
    });
  });
});

/** `result` of a response. */
function resultOf(response: unknown): Record<string, unknown> {
  return (response as { readonly result: Record<string, unknown> }).result;
}
