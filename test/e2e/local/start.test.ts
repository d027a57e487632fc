// `npm start` starts and ends cleanly with every Node and shell of the machine, and with every kind of reader of its
// output.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createConnection } from 'node:net';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, describe, expect, it } from 'vitest';
import { ROOT } from '../../support/fixtures/gateway/local-gateway.ts';

/** PATH without the runtime that npm scripts put in front of it. */
const machinePath = (process.env.PATH ?? '')
  .split(delimiter)
  .filter((directory) => !directory.includes('node_modules'))
  .join(delimiter);

const ended: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const end of ended.splice(0)) await end();
});

/** In a process group of its own, which is ended after the test. */
function start(command: string, env: Readonly<Record<string, string>> = {}): ChildProcess {
  const data = mkdtempSync(join(tmpdir(), 'gateway-'));
  const child = spawn('sh', ['-c', command], {
    cwd: ROOT,
    env: { PATH: machinePath, HOME: data, PORT: '0', GATEWAY_DATA_DIR: data, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  });
  const closed = once(child, 'close');
  ended.push(async () => {
    try {
      process.kill(-(child.pid ?? 0), 'SIGKILL');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
    await closed;
    rmSync(data, { recursive: true, force: true });
  });
  return child;
}

async function readyPort(stream: NodeJS.ReadableStream): Promise<number> {
  const lines: string[] = [];
  for await (const line of createInterface({ input: stream })) {
    lines.push(line);
    const port = /^gateway ready at http:\/\/127\.0\.0\.1:(\d+)/.exec(line)?.[1];
    if (port !== undefined) return Number(port);
  }
  throw new Error(`not ready: ${lines.join('\n')}`);
}

/** Settles when nothing listens any more. */
async function refuses(port: number): Promise<boolean> {
  const socket = createConnection(port, '127.0.0.1');
  const result = await once(socket, 'connect').then(
    () => false,
    () => true,
  );
  socket.destroy();
  return result;
}

describe('signals', () => {
  it.each([
    ['SIGTERM, to npm alone', 'SIGTERM', 1],
    ['SIGINT, to its group, as a terminal sends it', 'SIGINT', -1],
  ] as const)('signals that npm gets end the server: %s', async (_, signal, whom) => {
    const child = start('exec npm start');
    const port = await readyPort(child.stdout as NodeJS.ReadableStream);
    process.kill(whom * (child.pid ?? 0), signal);
    await expect.poll(() => refuses(port)).toBe(true);
  });
});

describe('output without a reader', () => {
  it.each([
    ['is closed before the first line', 'true'],
    ['is closed after a line', 'head -1 > /dev/null'],
  ])('output without a reader does not end the server: it %s', async (_, reader) => {
    const port = await freePort();
    // The server's end would show in what `wait` returns.
    const child = start(`npm start 2>/dev/null | ${reader}`, { PORT: String(port) });
    child.stdout?.resume();
    await expect.poll(() => health(port)).toBe('healthy');
    // Calls write log lines; a write that fails shows at the next turn of the event loop.
    for (let call = 0; call < 3; call++) expect(await health(port)).toBe('healthy');
    expect(await refuses(port)).toBe(false);
  });

  it('the server continues when neither stdout nor stderr has a reader', async () => {
    const port = await freePort();
    start('npm start 2>&1 | true', { PORT: String(port), GATEWAY_LIMIT: 'is a warning' });
    await expect.poll(() => health(port)).toBe('healthy');
    expect(await health(port)).toBe('healthy');
  });
});

it('every script of package.json starts with functions/run.js, which runs on every Node since 18', () => {
  const { scripts } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as {
    scripts: Record<string, string>;
  };
  const commands = Object.values(scripts).flatMap((script) => script.split(' && '));
  for (const command of commands) expect(command).toMatch(/^node functions\/run\.js \S/);
});

async function health(port: number): Promise<string> {
  try {
    const response = await fetch(`http://127.0.0.1:${port}/health`);
    return ((await response.json()) as { status: string }).status;
  } catch {
    return 'away';
  }
}

async function freePort(): Promise<number> {
  const { createServer } = await import('node:net');
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  server.close();
  await once(server, 'close');
  return typeof address === 'object' && address !== null ? address.port : 0;
}
