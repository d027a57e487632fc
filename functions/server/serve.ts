// A gateway with a server of its own (the companion, `npm start`): its services made, and drained at its end. Functions
// run under the framework instead (framework.ts). Names no endpoint.
import { setTimeout as pause } from 'node:timers/promises';
import { trimEnvironment } from '../../shared/config/environment.ts';
import { loadConfig } from '../../shared/config/load-config.ts';
import { createServices } from '../../shared/create-services.ts';
import type { Services } from '../../shared/services.ts';
import type { HttpServer } from './node-server.ts';
import { runProgram } from './process.ts';
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

/** Never rejects: what keeps the process from starting is written to stderr, a line each, and it exits with 1. */
export function runProcess(create: (services: Services) => Served | Promise<Served>): Promise<void> {
  return runProgram(async () => {
    const services = await createServices(loadConfig(trimEnvironment(process.env)));
    const { commands, config, engines, log } = services;
    const [served] = await Promise.all([create(services), warm(services, ['keys', 'store'])]);
    return {
      log,
      server: served.server,
      host: config.host,
      port: config.port,
      announce: served.announce,
      warm() {
        engines.warm?.();
        // The self-test is made now, not at the cost of the first caller.
        void commands.available().then((state) => {
          if (state.ok && state.warning !== undefined) log.warn(state.warning);
        });
      },
      stop: () => stop(services, served),
    };
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
