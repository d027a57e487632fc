// The companion, a Cloud Run service beside the functions: sockets, and calls that need a process. Drains on SIGTERM, which Cloud Run
// follows with SIGKILL ten seconds later.
import { ConfigError, loadConfig } from '../../shared/config.ts';
import { createServices } from '../../shared/create-services.ts';
import { errorFields } from '../../shared/log.ts';
import * as methods from '../../shared/methods/index.ts';
import { createRegistry } from '../../shared/rpc/method.ts';
import { createCompanionServer } from './companion.ts';

const DRAIN_MS = 8_000;
const CLOSE_MS = 1_000;

try {
  await main();
} catch (error) {
  process.stderr.write(`${error instanceof ConfigError ? error.message : String(error)}\n`);
  process.exitCode = 1;
}

async function main(): Promise<void> {
  const config = loadConfig(process.env);
  const services = await createServices(config);
  // The Google SDKs leave promises behind that nobody waits for when they cannot authenticate: no reason to end every call in flight.
  process.on('unhandledRejection', (error) =>
    services.log.log('ERROR', 'a rejection was not handled', errorFields(error)),
  );
  const { log, conversations } = services;
  const server = createCompanionServer(services, createRegistry(Object.values(methods)));
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(config.port, config.host, resolve);
  });
  const address = server.address();
  log.log('INFO', 'companion listens', { port: typeof address === 'object' ? address?.port : address });
  services.engines.warm?.();
  // The self-test is made now, not at the cost of the first caller.
  void services.sandbox.available();

  let stopping = false;
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      if (stopping) return;
      stopping = true;
      const beganMs = performance.now();
      void stop().finally(() => {
        log.log('INFO', 'drained', { signal, duration_ms: Math.round(performance.now() - beganMs) });
        log.flush();
        process.exit(0);
      });
    });
  }

  /** Sockets hear of it first: their clients go elsewhere while turns finish. */
  async function stop(): Promise<void> {
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    const idle = setInterval(() => server.closeIdleConnections(), 50);
    await Promise.all([server.sockets.drain(DRAIN_MS), conversations.drain(DRAIN_MS)]);
    const rest = setTimeout(() => server.closeAllConnections(), CLOSE_MS / 2);
    await closed;
    clearTimeout(rest);
    clearInterval(idle);
    await Promise.race([services.close(), new Promise((resolve) => setTimeout(resolve, CLOSE_MS).unref())]);
  }
}
