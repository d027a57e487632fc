// Runs a program with a server: listens on the port, and drains on SIGTERM and SIGINT. Errors at the start are written
// to stderr, one per line.
import { ConfigError } from '../../../shared/config/read-variables.ts';
import { codeOf } from '../../../shared/errors.ts';
import { errorFields, type Logger } from '../../../shared/log.ts';
import type { HttpServer } from '../node-server.ts';
import { surviveClosedOutput } from './closed-output.ts';
import { tuneRuntime } from './runtime.ts';

export interface Program {
  readonly log: Logger;
  /** The server, which does not listen yet. */
  readonly server: HttpServer;
  readonly host: string;
  readonly port: number;
  /** Called when the process listens and its signal handlers are installed. */
  announce(port: number): void;
  /** Starts work for which callers need not wait. */
  warm(): void;
  /** Drains within a bounded time. The process exits afterwards. */
  stop(): Promise<void>;
}

/** Never rejects. If the program cannot start, the process exits with code 1. */
export async function runProgram(create: () => Promise<Program>): Promise<void> {
  surviveClosedOutput();
  try {
    await run(await create());
  } catch (error) {
    const hint = codeOf(error) === 'EADDRINUSE' ? ' (set PORT to a free one)' : '';
    process.stderr.write(`${error instanceof ConfigError ? error.message : `${error}${hint}`}\n`);
    process.exitCode = 1;
  }
}

async function run(program: Program): Promise<void> {
  const { log, server, host, port } = program;
  // The Google SDKs create rejected promises without a handler when they cannot authenticate. Node would end the
  // process, and with it every call in flight.
  process.on('unhandledRejection', (error) => log.error('a rejection was not handled', errorFields(error)));
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, resolve);
  });
  let stopping = false;
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      // A second signal ends the process immediately.
      if (stopping) process.exit(1);
      stopping = true;
      const startedMs = performance.now();
      void program.stop().finally(() => {
        log.info('drained', { signal, duration_ms: Math.round(performance.now() - startedMs) });
        log.flush();
        process.exit(0);
      });
    });
  }
  // Announced last, because the reader of the announcement may send a signal immediately.
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
