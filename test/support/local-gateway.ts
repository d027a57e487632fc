// Spawns the real local gateway, as `npm start` does, on a free port with a data directory of its own, and ends it by
// its process.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve as resolvePath } from 'node:path';
import { createInterface } from 'node:readline';

export const ROOT = resolvePath(import.meta.dirname, '../..');
const READY_TIMEOUT_MS = 30_000;

export interface LocalGateway {
  /** Without a trailing slash. */
  readonly url: string;
  readonly port: number;
  readonly child: ChildProcess;
  /** Milliseconds from spawn to the ready line. */
  readonly readyMs: number;
  /** Everything written to stdout and stderr so far. */
  output(): string;
  /** Resident memory of the process in bytes (Linux). */
  rssBytes(): number;
  /** Sends SIGTERM and waits for the end; removes the data. */
  stop(): Promise<number | null>;
}

export interface StartOptions {
  /** The environment beside PATH. */
  readonly env?: Readonly<Record<string, string>>;
  /** Default: this runtime on functions/local/main.ts. */
  readonly command?: readonly [string, ...string[]];
  readonly nodeArgs?: readonly string[];
}

/** Resolves when the ready line is there; rejects with the output when the process ends before. */
export async function startLocalGateway(options: StartOptions = {}): Promise<LocalGateway> {
  const data = mkdtempSync(join(tmpdir(), 'gateway-'));
  const [file, ...args] = options.command ?? [
    process.execPath,
    ...(options.nodeArgs ?? []),
    join(ROOT, 'functions/local/main.ts'),
  ];
  const startedMs = performance.now();
  const env = { HOME: process.env.HOME, PORT: '0', GATEWAY_DATA_DIR: data, ...options.env };
  const isGroup = options.command !== undefined;
  const program = await startProgram([file, ...args], /^gateway ready at (http:\/\/\S+)$/, env, isGroup);
  const { child, exited, output, url } = program;
  const readyMs = performance.now() - startedMs;
  return {
    url,
    port: Number(new URL(url).port),
    child,
    readyMs,
    output,
    rssBytes: () => Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${child.pid}/status`, 'utf8'))?.[1]) * 1024,
    async stop() {
      if (options.command === undefined || child.pid === undefined) child.kill('SIGTERM');
      else process.kill(-child.pid, 'SIGTERM');
      const [code] = await exited;
      rmSync(data, { recursive: true, force: true });
      return code;
    },
  };
}

export interface Program {
  readonly child: ChildProcess;
  /** The address in the ready line. */
  readonly url: string;
  /** The code and the signal of its end, when all that it wrote has been read. */
  readonly exited: Promise<readonly [number | null, NodeJS.Signals | null]>;
  /** Everything written to stdout and stderr so far. */
  output(): string;
}

/**
 * Spawns a program, in a process group of its own with `isGroup`. Resolves when a line matches `ready`, whose group is
 * its address; rejects with the output when the process ends before.
 */
export async function startProgram(
  [file, ...args]: readonly [string, ...string[]],
  ready: RegExp,
  env: Readonly<Record<string, string | undefined>>,
  isGroup = false,
): Promise<Program> {
  const child = spawn(file, args, {
    cwd: ROOT,
    env: { PATH: process.env.PATH, NODE_COMPILE_CACHE: process.env.NODE_COMPILE_CACHE, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
    // npm and its shell do not pass signals on: they are ended with their whole group, as a terminal would.
    detached: isGroup,
  });
  // Not 'exit': by then the last lines may not have been read.
  const exited = once(child, 'close').then(([code, signal]) => [code, signal] as const);
  const lines: string[] = [];
  const url = await new Promise<string>((resolve, reject) => {
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      reject(new Error(`not ready in time: ${lines.join('\n')}`));
    }, READY_TIMEOUT_MS);
    for (const stream of [child.stdout, child.stderr]) {
      createInterface({ input: stream }).on('line', (line) => {
        lines.push(line);
        const found = ready.exec(line);
        if (found?.[1] !== undefined) {
          clearTimeout(timer);
          resolve(found[1]);
        }
      });
    }
    child.once('close', () => {
      clearTimeout(timer);
      reject(new Error(`ended before it was ready: ${lines.join('\n')}`));
    });
  });
  return { child, url, exited, output: () => lines.join('\n') };
}
