// `npm start`: runs the gateway on one machine and prints its address. The process also runs the sweeper and, with the
// Pub/Sub emulator, the subscriber of deployment events.

import { findCodex, INSTALL_HINT } from '../../shared/codex-host/binary.ts';
import type { Config } from '../../shared/config/config.ts';
import { OFFLINE_MODEL } from '../../shared/config/values/model-id.ts';
import type { Engines } from '../../shared/engines/engine.ts';
import { errorFields } from '../../shared/log.ts';
import { LOCAL_KEY } from '../../shared/protocol.ts';
import { refuseMetadataServer } from '../../shared/sandbox/network/metadata-server.ts';
import type { Services } from '../../shared/services.ts';
import { applyDeploymentEvent } from '../../shared/webhooks/deployments.ts';
import { startSweeper } from '../../shared/webhooks/sweep.ts';
import { toUrl } from '../server/lifecycle/process.ts';
import { runProcess } from '../server/lifecycle/serve.ts';
import { createLocalServer } from './server.ts';

const SWEEP_MS = 5_000;
const EXPIRY_MS = 60_000;

await runProcess(async (services) => {
  const { config, engines, log } = services;
  const server = createLocalServer(services);
  const stopSweeper = startSweeper(services, SWEEP_MS);
  const stopExpiry = startExpiry(services);
  const stopPull = await startSubscriber(services);
  return {
    server,
    announce(port) {
      log.flush();
      process.stdout.write(`gateway ready at ${toUrl(config.host, port)}\n${banner(config, engines)}`);
    },
    async stop() {
      await stopSweeper();
      await stopExpiry();
      await stopPull();
    },
  };
}, checkMachine);

/** Erases expired sessions every minute, never twice at a time; in the cloud the deployments function does that. */
function startExpiry({ conversations, log }: Services): () => Promise<void> {
  const stopping = new AbortController();
  let running: Promise<void> | undefined;
  const run = async (): Promise<void> => {
    try {
      const count = await conversations.eraseExpired({ signal: stopping.signal });
      if (count > 0) log.info('erased expired sessions', { count });
    } catch (error) {
      log.warn('expired sessions are not erased yet', errorFields(error));
    } finally {
      running = undefined;
    }
  };
  const timer = setInterval(() => {
    running ??= run();
  }, EXPIRY_MS).unref();
  return async () => {
    clearInterval(timer);
    stopping.abort();
    await running;
  };
}

/** Registered servers run in this process's sandbox unless there is a sandbox service. */
async function checkMachine({ sandbox, mcpServers }: Config): Promise<void> {
  if (sandbox === undefined) await refuseMetadataServer(mcpServers);
}

/** In the cloud, Pub/Sub pushes events to the deployments function. With the emulator, this process pulls them. */
async function startSubscriber(services: Services): Promise<() => Promise<void>> {
  const { config, log } = services;
  if (config.bus !== 'pubsub' || config.emulators.pubsub === undefined || config.projectId === undefined) {
    return async () => {};
  }
  const { startPull } = await import('../../shared/webhooks/bus/pubsub-pull.ts');
  return startPull({
    projectId: config.projectId,
    topic: config.topic,
    emulatorHost: config.emulators.pubsub,
    subscription: `${config.topic}-deployments`,
    subscriber: (event, options) => applyDeploymentEvent(services, event, options),
    log,
  });
}

function banner({ codexProgram, dataDir, keys, store }: Config, engines: Engines): string {
  const isLocalKey = keys.source === 'environment' && keys.documents.includes(LOCAL_KEY);
  return [
    `  model  ${engines.defaultModel}${remarkOn(engines)}`,
    `  key    ${isLocalKey ? `${LOCAL_KEY} (X-API-Key; for this machine only)` : 'as configured'}`,
    `  store  ${store === 'embedded' ? dataDir : store}`,
    ...(findCodex(codexProgram) === undefined ? [`  codex  not installed: ${INSTALL_HINT}`] : []),
    '',
  ].join('\n');
}

/** A model without credentials is not a mistake, because callers may use their own (`auth.login`). */
function remarkOn({ defaultModel, resolve }: Engines): string {
  if (defaultModel === OFFLINE_MODEL)
    return ' (echoes prompts; set ANTHROPIC_API_KEY or OPENAI_API_KEY, or MODEL, for a real model)';
  try {
    resolve(undefined);
    return '';
  } catch {
    return ' (has no credentials here: only prompts with an auth_session_id are answered)';
  }
}
