// Starts the stock functions-framework CLI on loopback, as Cloud Functions does, and learns the port it got from the function's own log.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { createInterface } from 'node:readline';

export interface RunningFunction {
  readonly url: string;
  readonly port: number;
  readonly child: ChildProcess;
  /** Everything written to stdout and stderr so far. */
  output(): string;
  /** Sends the signal and waits for the process to end. */
  stop(signal?: NodeJS.Signals): Promise<{ readonly code: number | null; readonly signal: NodeJS.Signals | null }>;
}

export const ROOT = path.resolve(import.meta.dirname, '../..');
const CLI = path.join(ROOT, 'node_modules/@google-cloud/functions-framework/build/src/main.js');
const READY_TIMEOUT_MS = 20_000;

/** Resolves when the function listens; rejects with its output when it ends before. `env` replaces the environment but for PATH. */
export async function startFunction(options: {
  readonly source: string;
  readonly target: string;
  readonly env?: Readonly<Record<string, string>>;
}): Promise<RunningFunction> {
  const child = spawn(process.execPath, [CLI, `--source=${options.source}`], {
    cwd: ROOT,
    env: { PATH: process.env.PATH, FUNCTION_TARGET: options.target, PORT: '0', NODE_ENV: 'production', ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const exited = once(child, 'exit');
  const lines: string[] = [];
  const port = await new Promise<number>((resolve, reject) => {
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      reject(new Error(`not listening in time: ${lines.join('\n')}`));
    }, READY_TIMEOUT_MS);
    const onLine = (line: string): void => {
      lines.push(line);
      const found = /"function listens".*"port":(\d+)/.exec(line);
      if (found !== null) {
        clearTimeout(timer);
        resolve(Number(found[1]));
      }
    };
    createInterface({ input: child.stdout }).on('line', onLine);
    createInterface({ input: child.stderr }).on('line', onLine);
    child.once('close', () => {
      clearTimeout(timer);
      reject(new Error(`ended before it listened: ${lines.join('\n')}`));
    });
  });
  return {
    url: `http://127.0.0.1:${port}`,
    port,
    child,
    output: () => lines.join('\n'),
    async stop(signal = 'SIGTERM') {
      child.kill(signal);
      const [code, endedBy] = await exited;
      return { code, signal: endedBy };
    },
  };
}
