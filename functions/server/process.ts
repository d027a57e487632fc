// The life of a process with a server of its own: the port opened, SIGTERM and SIGINT drained. What keeps it from
// starting is written to stderr, a line each.
import { ConfigError } from '../../shared/config/read-variables.ts';
import { errorFields, type Logger } from '../../shared/log.ts';
import { surviveClosedOutput } from './closed-output.ts';
import type { HttpServer } from './node-server.ts';
import { tuneRuntime } from './runtime.ts';

export interface Program {
  readonly log: Logger;
  /** Not listening yet. */
  readonly server: HttpServer;
  readonly host: string;
  readonly port: number;
  /** Called once the process listens and its signal handlers are installed. */
  announce(port: number): void;
  /** Work that callers need not wait for. */
  warm(): void;
  /** Drains, in a bounded time; then the process ends. */
  stop(): Promise<void>;
}

/** Never rejects: when the program cannot start, the process exits with 1. */
export async function runProgram(create: () => Promise<Program>): Promise<void> {
  surviveClosedOutput();
  try {
    await run(await create());
  } catch (error) {
    const isTaken = error instanceof Error && 'code' in error && error.code === 'EADDRINUSE';
    const hint = isTaken ? ' (set PORT to a free one)' : '';
    process.stderr.write(`${error instanceof ConfigError ? error.message : `${error}${hint}`}\n`);
    process.exitCode = 1;
  }
}

async function run(program: Program): Promise<void> {
  const { log, server, host, port } = program;
  // The Google SDKs leave promises without a handler when they cannot authenticate: no reason to end every call in
  // flight.
  process.on('unhandledRejection', (error) => log.error('a rejection was not handled', errorFields(error)));
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, resolve);
  });
  let stopping = false;
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      // A second signal means now.
      if (stopping) process.exit(1);
      stopping = true;
      const beganMs = performance.now();
      void program.stop().finally(() => {
        log.info('drained', { signal, duration_ms: Math.round(performance.now() - beganMs) });
        log.flush();
        process.exit(0);
      });
    });
  }
  // Last of all: who reads the announcement may send a signal at once.
  const address = server.address();
  program.announce(typeof address === 'object' && address !== null ? address.port : port);
  log.flush();
  tuneRuntime();
  program.warm();
}

/** `http://HOST:PORT`. */
export function toUrl(host: string, port: number): string {
  return `http://${host.includes(':') ? `[${host}]` : host}:${port}`;
}
