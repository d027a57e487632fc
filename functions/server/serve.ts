// The life of a process with a server of its own (the companion, `npm start`): reads the environment, opens the port,
// and drains on SIGTERM and SIGINT. Functions run under the framework instead (framework.ts).
import { setTimeout as pause } from 'node:timers/promises';
import { trimEnvironment } from '../../shared/config/environment.ts';
import { ConfigError, loadConfig } from '../../shared/config/load-config.ts';
import { createServices } from '../../shared/create-services.ts';
import { errorFields } from '../../shared/log.ts';
import type { Services } from '../../shared/services.ts';
import { surviveClosedOutput } from './closed-output.ts';
import type { HttpServer } from './node-server.ts';
import { tuneRuntime } from './runtime.ts';
import { warm } from './warm.ts';

export interface Served {
  /** A server that does not listen yet; `sockets` outlive the upgrade requests. */
  readonly server: HttpServer & { readonly sockets: { drain(graceMs: number): Promise<void> } };
  /** Called once the process listens and its signal handlers are installed. */
  announce(port: number): void;
  /** Ends background work of the process, after the last call. */
  stop?(): Promise<void>;
}

/** Cloud Run kills the process 10 s after SIGTERM. Calls get this part of it; the rest is for connections and files. */
const DRAIN_MS = 8_000;
/**
 * Turns are interrupted this long before their sockets are closed, so that the last event and the response are sent.
 */
const LAST_EVENTS_MS = 500;
const LINGER_MS = 500;
const CLOSE_MS = 1_000;
const IDLE_CHECK_MS = 50;

/** Never rejects: if the process cannot start, it writes the reasons to stderr, one per line, and exits with 1. */
export async function runProcess(create: (services: Services) => Served | Promise<Served>): Promise<void> {
  surviveClosedOutput();
  try {
    const services = await createServices(loadConfig(trimEnvironment(process.env)));
    // The Google SDKs leave rejected promises without a handler when they cannot authenticate; this must not end all
    // calls in flight.
    process.on('unhandledRejection', (error) => services.log.error('a rejection was not handled', errorFields(error)));
    const [served] = await Promise.all([create(services), warm(services, ['keys', 'store'])]);
    await serve(services, served);
  } catch (error) {
    const isTaken = error instanceof Error && 'code' in error && error.code === 'EADDRINUSE';
    const hint = isTaken ? ' (set PORT to a free one)' : '';
    process.stderr.write(`${error instanceof ConfigError ? error.message : `${error}${hint}`}\n`);
    process.exitCode = 1;
  }
}

async function serve(services: Services, served: Served): Promise<void> {
  const { config, engines, log, sandbox } = services;
  const { server } = served;
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(config.port, config.host, resolve);
  });
  let stopping = false;
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      // A second signal ends the process at once.
      if (stopping) process.exit(1);
      stopping = true;
      const beganMs = performance.now();
      void stop(services, served).finally(() => {
        log.info('drained', { signal, duration_ms: Math.round(performance.now() - beganMs) });
        log.flush();
        process.exit(0);
      });
    });
  }
  // Announced last, because the reader of the announcement may send a signal at once.
  const address = server.address();
  served.announce(typeof address === 'object' && address !== null ? address.port : config.port);
  log.flush();
  tuneRuntime();
  engines.warm?.();
  // Runs the self-test of the sandbox at start, so that the first caller does not wait for it.
  void sandbox.available().then((state) => {
    if (state.ok && state.warning !== undefined) log.warn(state.warning);
  });
}

/** Sockets are closed first: their clients reconnect to another instance while turns finish. */
async function stop(services: Services, { server, stop: stopRest }: Served): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  // server.close() closes connections that are idle now, not those that become idle when their response ends.
  const idle = setInterval(() => server.closeIdleConnections(), IDLE_CHECK_MS);
  server.closeSilent();
  await Promise.all([
    server.sockets.drain(DRAIN_MS),
    services.conversations.drain(DRAIN_MS - LAST_EVENTS_MS),
    // Commands and calls to others finish, too.
    Promise.race([closed, pause(DRAIN_MS - LAST_EVENTS_MS, undefined, { ref: false })]),
  ]);
  const rest = setTimeout(() => server.closeAllConnections(), LINGER_MS);
  await closed;
  clearTimeout(rest);
  clearInterval(idle);
  const release = async (): Promise<void> => {
    await stopRest?.();
    await services.close();
  };
  await Promise.race([release(), pause(CLOSE_MS, undefined, { ref: false })]);
}
