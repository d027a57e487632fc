// The two WebSocket clients of the reference document work against a real gateway as they are printed there, except for
// the line with the gateway's URL. test/support/fixtures/reference contains their texts.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, expect, it } from 'vitest';
import { withoutSandbox } from '../../support/fixtures/gateway/console.ts';
import { startInProcess } from '../../support/fixtures/gateway/in-process.ts';
import { ROOT, startLocalGateway } from '../../support/fixtures/gateway/local-gateway.ts';
import { describeWith, findPython } from '../../support/requirements.ts';

const KEY = 'reference-key';
const PRINTED_URL = 'wss://wrapper-467992722695.us-central1.run.app/ws';
const scratch = mkdtempSync(join(tmpdir(), 'ws-reference-'));
afterAll(() => rmSync(scratch, { recursive: true }));

interface Run {
  readonly child: ChildProcess;
  /** Lines of stdout and stderr so far. */
  readonly lines: readonly string[];
  /** Resolves to the message of the first line `Received: ...`; rejects when the process ends without one. */
  readonly received: Promise<unknown>;
}

/** Starts a client of the reference against the gateway at `url`. */
function run(command: string, file: string, name: string, url: string): Run {
  const program = readFileSync(join(import.meta.dirname, '../../support/fixtures/reference', file), 'utf8');
  expect(program).toContain(PRINTED_URL);
  const path = join(scratch, name);
  writeFileSync(path, program.replace(PRINTED_URL, `${url.replace('http', 'ws')}/ws`));
  const child = spawn(command, [path], {
    env: { PATH: process.env.PATH, GATEWAY_KEY: KEY, LANG: 'C.UTF-8', NODE_PATH: join(ROOT, 'node_modules') },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const lines: string[] = [];
  const received = new Promise<unknown>((resolve, reject) => {
    for (const stream of [child.stdout, child.stderr]) {
      createInterface({ input: stream }).on('line', (line) => {
        lines.push(line);
        if (line.startsWith('Received:')) resolve(JSON.parse(line.slice('Received:'.length)));
      });
    }
    child.once('close', () => reject(new Error(`ended without a message: ${lines.join('\n')}`)));
  });
  return { child, lines, received };
}

describeWith('python', 'the Python client', () => {
  // It prints the first message: a command that takes longer sends an event before its response.
  it('the Python client of the reference, with Debian’s websockets, prints the response, an error without a sandbox', async () => {
    const gateway = await startInProcess({ GATEWAY_API_KEY: KEY }, withoutSandbox());
    const python = findPython() ?? 'python3';
    const { child, lines, received } = run(python, 'websocket_client.py', 'websocket_client.py', gateway.url);
    const closed = once(child, 'close');
    expect(await received).toMatchObject({
      jsonrpc: '2.0',
      id: 1,
      error: { code: 403, data: { reason: 'sandbox_unavailable' } },
    });
    await closed;
    expect(child.exitCode, lines.join('\n')).toBe(0);
    await gateway.close();
  });
});

describeWith('bubblewrap', 'the Node client', () => {
  it('the Node client of the reference prints the response of the command, and stays connected', async () => {
    const gateway = await startLocalGateway({ env: { GATEWAY_API_KEY: KEY } });
    const client = run(process.execPath, 'websocket-client.js.txt', 'websocket-client.cjs', gateway.url);
    const { child, lines, received } = client;
    // Events of a command that takes longer come before its response.
    const response = (): string | undefined => lines.find((line) => /^Received:.*"id":1/.test(line));
    await received;
    await expect.poll(response).toBeDefined();
    expect(lines[0]).toBe('Connected to gateway');
    expect(JSON.parse(response()?.slice('Received:'.length) ?? '')).toMatchObject({
      jsonrpc: '2.0',
      id: 1,
      result: { stdout: expect.stringContaining('WebSocket test'), exit_code: 0 },
    });
    expect(child.exitCode).toBeNull();
    const exited = once(child, 'exit');
    child.kill('SIGTERM');
    await exited;
    await gateway.stop();
  });
});
