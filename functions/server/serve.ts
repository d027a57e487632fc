// The life of a process with a server of its own (the companion, `npm start`): the environment read, the port opened,
// SIGTERM and SIGINT drained. Functions run under the framework instead (framework.ts). Names no endpoint.
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
  /** Not listening yet; `sockets` outlive the requests they began with. */
  readonly server: HttpServer & { readonly sockets: { drain(graceMs: number): Promise<void> } };
  /** Called once the process listens and its signal handlers are installed. */
  announce(port: number): void;
  /** Ends what runs beside the server, after the last call. */
  stop?(): Promise<void>;
}

/** Cloud Run kills 10 s after SIGTERM: the calls' part of it, and what is left for connections and for files. */
const DRAIN_MS = 8_000;
/** Turns are interrupted so much earlier than their sockets are closed: the last event and the answer still go out. */
const FAREWELL_MS = 500;
const LINGER_MS = 500;
const CLOSE_MS = 1_000;
const IDLE_CHECK_MS = 50;

/** Never rejects: what keeps the process from starting is written to stderr, a line each, and it exits with 1. */
export async function runProcess(create: (services: Services) => Served | Promise<Served>): Promise<void> {
  surviveClosedOutput();
  try {
    const services = await createServices(loadConfig(trimEnvironment(process.env)));
    // The Google SDKs leave promises without a handler when they cannot authenticate: no reason to end every
    // call in flight.
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
      // A second signal means now.
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
  // Last of all: who reads the announcement may send a signal at once.
  const address = server.address();
  served.announce(typeof address === 'object' && address !== null ? address.port : config.port);
  log.flush();
  tuneRuntime();
  engines.warm?.();
  // The self-test is made now, not at the cost of the first caller.
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
    services.conversations.drain(DRAIN_MS - FAREWELL_MS),
    // Commands and calls to others finish, too.
    Promise.race([closed, pause(DRAIN_MS - FAREWELL_MS, undefined, { ref: false })]),
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
