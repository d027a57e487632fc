// The two WebSocket clients of the reference document against the real local gateway, as printed there but for the line
// that says where the gateway is. test/e2e/reference holds their texts.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type LocalGateway, ROOT, startLocalGateway } from '../support/local-gateway.ts';
import { describeWith, findPython } from '../support/requirements.ts';

const KEY = 'reference-key';
const PRINTED_URL = 'wss://wrapper-467992722695.us-central1.run.app/ws';
const scratch = mkdtempSync(join(tmpdir(), 'ws-reference-'));
let gateway: LocalGateway;
beforeAll(async () => {
  gateway = await startLocalGateway({ env: { GATEWAY_API_KEY: KEY } });
});
afterAll(async () => {
  await gateway.stop();
  rmSync(scratch, { recursive: true });
});

/** Runs a client and answers what it printed once it has printed what it received, or has ended. */
async function run(
  command: string,
  file: string,
  name: string,
): Promise<{ readonly lines: string[]; readonly child: ChildProcess }> {
  const program = readFileSync(join(import.meta.dirname, 'reference', file), 'utf8');
  expect(program).toContain(PRINTED_URL);
  const path = join(scratch, name);
  writeFileSync(path, program.replace(PRINTED_URL, `${gateway.url.replace('http', 'ws')}/ws`));
  const child = spawn(command, [path], {
    env: { PATH: process.env.PATH, GATEWAY_KEY: KEY, LANG: 'C.UTF-8', NODE_PATH: join(ROOT, 'node_modules') },
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: 60_000,
  });
  const lines: string[] = [];
  for (const stream of [child.stdout, child.stderr])
    createInterface({ input: stream }).on('line', (line) => lines.push(line));
  await expect.poll(() => lines.some(isResponse) || child.exitCode !== null, { timeout: 60_000 }).toBe(true);
  return { lines, child };
}

/** The response, not an event of a command that takes long. */
function isResponse(line: string): boolean {
  return line.startsWith('Received:') && line.includes('"id":1');
}

/** A JSON-RPC response to the call that the client made: a result of `exec`, or why there is none here. */
function expectResponse(lines: readonly string[]): void {
  const received = lines.find(isResponse);
  expect(received, lines.join('\n')).toBeDefined();
  const response: object = JSON.parse(received?.slice('Received:'.length) ?? '');
  expect(response).toMatchObject({ jsonrpc: '2.0', id: 1 });
  if ('result' in response)
    expect(response.result).toMatchObject({ stdout: expect.stringContaining('WebSocket test'), exit_code: 0 });
  else expect(response).toMatchObject({ error: { code: expect.any(Number), data: { reason: expect.any(String) } } });
}

describeWith('python', 'the Python client', () => {
  it('connects, calls and receives a JSON-RPC response, with Debian’s websockets', async () => {
    const { lines, child } = await run(findPython() ?? 'python3', 'websocket_client.py', 'websocket_client.py');
    if (child.exitCode === null) await once(child, 'exit');
    expect(child.exitCode, lines.join('\n')).toBe(0);
    // This client prints the first message it gets: on a machine so slow that `echo` takes half a second, an event of
    // the command.
    if (lines.some(isResponse)) expectResponse(lines);
    else expect(lines.join('\n')).toMatch(/^Received: \{"jsonrpc":"2\.0","method":"workspace\.event"/m);
  }, 120_000);
});

describe('the Node client', () => {
  it('connects, calls and receives a JSON-RPC response, and stays connected', async () => {
    const { lines, child } = await run(process.execPath, 'websocket-client.js.txt', 'websocket-client.cjs');
    expect(lines[0]).toBe('Connected to gateway');
    expectResponse(lines);
    expect(child.exitCode).toBeNull();
    const exited = once(child, 'exit');
    child.kill('SIGTERM');
    await exited;
  }, 120_000);
});
