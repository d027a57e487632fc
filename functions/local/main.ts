// `npm start`: the gateway on a laptop. Says on stdout where it is, and drains on SIGTERM and SIGINT.
import type { AddressInfo } from 'node:net';
import { ConfigError, LOCAL_KEY, loadConfig } from '../../shared/config.ts';
import { createServices } from '../../shared/create-services.ts';
import { OFFLINE_MODEL } from '../../shared/engines/offline.ts';
import { applyDeploymentEvent } from '../../shared/events/deployments.ts';
import { startSweeper } from '../../shared/events/sweep.ts';
import { errorFields } from '../../shared/log.ts';
import { createLocalServer } from './server.ts';

const SWEEP_MS = 5_000;
const DRAIN_MS = 8_000;

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
  const server = createLocalServer(services);
  const stopSweeper = startSweeper(services, SWEEP_MS);
  const stopPull = await startSubscriber();

  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(config.port, config.host, resolve);
  });
  const { port } = server.address() as AddressInfo;
  const host = config.host.includes(':') ? `[${config.host}]` : config.host;

  let stopping = false;
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      // A second signal means now.
      if (stopping) process.exit(1);
      stopping = true;
      void stop().finally(() => process.exit(0));
    });
  }

  // Last of all: who reads the line may send a signal at once.
  services.log.flush();
  process.stdout.write(`gateway ready at http://${host}:${port}\n${banner()}`);
  services.engines.warm?.();
  // The self-test is made now, not at the cost of the first caller.
  void services.sandbox.available();

  async function stop(): Promise<void> {
    const closed = new Promise<void>((resolve) => server.close(() => resolve()));
    const idle = setInterval(() => server.closeIdleConnections(), 50);
    await Promise.all([services.conversations.drain(DRAIN_MS), server.sockets.drain(DRAIN_MS)]);
    const rest = setTimeout(() => server.closeAllConnections(), 1_000);
    await closed;
    clearTimeout(rest);
    clearInterval(idle);
    await stopSweeper();
    await stopPull();
    await services.close();
  }

  /** In the cloud the deployments function is pushed to; on the emulator this process pulls. */
  async function startSubscriber(): Promise<() => Promise<void>> {
    if (config.bus !== 'pubsub' || config.emulators.pubsub === undefined || config.projectId === undefined) {
      return async () => {};
    }
    const { startPull } = await import('../../shared/events/pubsub-pull.ts');
    return startPull({
      projectId: config.projectId,
      topic: config.topic,
      emulatorHost: config.emulators.pubsub,
      subscription: `${config.topic}-deployments`,
      subscriber: (event, options) => applyDeploymentEvent(services, event, options),
      log: services.log,
    });
  }

  function banner(): string {
    const { keys, store } = config;
    const isLocalKey = keys.source === 'environment' && keys.documents.includes(LOCAL_KEY);
    const model = services.engines.defaultModel;
    return [
      `  model  ${model}${model === OFFLINE_MODEL ? ' (echoes prompts; set ANTHROPIC_API_KEY or OPENAI_API_KEY for a real model)' : ''}`,
      `  key    ${isLocalKey ? `${LOCAL_KEY} (X-API-Key; for this machine only)` : 'as configured'}`,
      `  store  ${store === 'embedded' ? config.dataDir : store}`,
      '',
    ].join('\n');
  }
}
