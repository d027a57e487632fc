// Runs a gateway process with its own server (the companion, `npm start`): creates its services, and drains them at the
// end. Functions run under the framework instead (framework.ts). This module defines no endpoint.
import { setTimeout as pause } from 'node:timers/promises';
import type { Config } from '../../../shared/config/config.ts';
import { trimEnvironment } from '../../../shared/config/environment.ts';
import { loadConfig } from '../../../shared/config/load-config.ts';
import { createServices } from '../../../shared/create-services.ts';
import type { Services } from '../../../shared/services.ts';
import type { HttpServer } from '../node-server.ts';
import { runProgram } from './process.ts';
import { warm } from './warm.ts';

export interface Served {
  /** A server that does not listen yet. `sockets` are its open WebSockets. */
  readonly server: HttpServer & { readonly sockets: { drain(graceMs: number): Promise<void> } };
  /** Called when the process listens and its signal handlers are installed. */
  announce(port: number): void;
  /** Ends background work of the process after the last call. */
  stop?(): Promise<void>;
}

/**
 * How long calls may run after SIGTERM. Cloud Run kills the process after 10 s; the remaining time is for closing
 * connections and files.
 */
const DRAIN_MS = 8_000;
/**
 * Turns are interrupted this long before their sockets are closed, so that their last event and the response can be
 * sent.
 */
const LAST_EVENTS_MS = 500;
const LINGER_MS = 500;
const CLOSE_MS = 1_000;
const IDLE_CHECK_MS = 50;

/**
 * Never rejects. Errors at the start are written to stderr, one per line, and the process exits with code 1. `check`
 * rejects when this machine is not suitable.
 */
export function runProcess(
  create: (services: Services) => Served | Promise<Served>,
  check?: (config: Config) => Promise<void>,
): Promise<void> {
  return runProgram(async () => {
    const configured = loadConfig(trimEnvironment(process.env));
    await check?.(configured);
    const services = await createServices(configured);
    const { commands, config, engines, log } = services;
    const [served] = await Promise.all([create(services), warm(services, ['keys'])]);
    return {
      log,
      server: served.server,
      host: config.host,
      port: config.port,
      announce: served.announce,
      warm() {
        engines.warm?.();
        // Loading its HTTP client blocks the event loop for a tenth of a second.
        if (config.backends.size > 0) void import('../../../shared/net/safe-fetch.ts');
        // Runs the self-test now, so that the first caller does not wait for it.
        void commands.available().then((state) => {
          if (state.ok && state.warning !== undefined) log.warn(state.warning);
        });
      },
      stop: () => stop(services, served),
    };
  });
}

/** Sockets are closed first, so that their clients reconnect to another instance while turns finish. */
async function stop(services: Services, { server, stop: stopRest }: Served): Promise<void> {
  const closed = new Promise<void>((resolve) => server.close(() => resolve()));
  // server.close() closes only connections that are idle now. Those that become idle later are closed by this interval.
  const idle = setInterval(() => server.closeIdleConnections(), IDLE_CHECK_MS);
  server.closeSilent();
  await Promise.all([
    server.sockets.drain(DRAIN_MS),
    services.conversations.drain(DRAIN_MS - LAST_EVENTS_MS),
    // Commands and requests to other services also finish.
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
