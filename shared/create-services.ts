// Creates the adapters for a configuration, once per process. The module of an adapter is imported only when it is
// used, because each import costs start-up time.
import { join } from 'node:path';
import type { Keys } from './auth/keys/keys.ts';
import type { KeyWrapper } from './auth/logins/envelope.ts';
import { createFileKeyWrapper, createMemoryKeyWrapper } from './auth/logins/local-key.ts';
import { createLoginCheck } from './auth/logins/login-check.ts';
import { createLogins } from './auth/logins/logins.ts';
import { createOrigins } from './auth/origins.ts';
import { createWrongCredentials } from './auth/wrong-credentials.ts';
import { randomIds, systemClock } from './clock.ts';
import type { Config } from './config/config.ts';
import { createConversations } from './conversations/conversations.ts';
import { createRollouts } from './conversations/records/rollouts.ts';
import { createEngines } from './engines/engines.ts';
import { createLogger, errorFields } from './log.ts';
import { createMcp } from './mcp/connections.ts';
import { toBaseUrl } from './net/base-url.ts';
import { createProxiedFetch } from './net/proxy.ts';
import { createDocumentLimiter } from './rate-limit/document-limiter.ts';
import { createBubblewrapSandbox, workspacesOf } from './sandbox/bubblewrap.ts';
import type { Services } from './services.ts';
import type { Store } from './store/store.ts';
import { createTerminals } from './terminals/terminals.ts';
import { applyDeploymentEvent } from './webhooks/deployments.ts';
import type { EventBus } from './webhooks/event.ts';

/** Services in `overrides` replace the configured adapters; the caller closes them. */
export async function createServices(config: Config, overrides: Partial<Services> = {}): Promise<Services> {
  const log = overrides.log ?? createLogger({ format: config.logFormat });
  for (const warning of config.warnings) log.warn(warning);
  const clock = overrides.clock ?? systemClock;
  const ids = overrides.ids ?? randomIds;
  const parts = { config, log, clock };
  const [store, keys] = await Promise.all([overrides.store ?? createStore(parts), overrides.keys ?? createKeys(parts)]);
  const bus = overrides.bus ?? (await createBus(parts, store));
  const sandbox =
    overrides.sandbox ?? createBubblewrapSandbox({ directory: workspacesOf(config.dataDir), path: config.searchPath });
  const codex = {
    launcher: sandbox,
    state: createRollouts(store, clock),
    dataDir: config.dataDir,
    warn: (message: string, error: unknown) => log.warn(message, error === undefined ? {} : errorFields(error)),
  };
  const engines = overrides.engines ?? createEngines(config, { codex });
  const terminals = overrides.terminals ?? createTerminals({ sandbox, log });
  const mcp = overrides.mcp ?? createMcp({ sandbox, log, clock, servers: config.mcpServers });
  const wrongCredentials =
    overrides.wrongCredentials ?? createWrongCredentials({ clock, log, isBehindFrontEnd: config.deployed });
  const limiter = overrides.limiter ?? createDocumentLimiter({ store, clock, log });
  const wrapper = await createKeyWrapper(config);
  return {
    config,
    log,
    clock,
    ids,
    store,
    bus,
    keys,
    wrongCredentials,
    origins: overrides.origins ?? createOrigins(config.allowedOrigins, log),
    logins:
      overrides.logins ?? createLogins({ store, clock, ids, wrapper, check: createLoginCheck(loginApis(config)) }),
    engines,
    limiter,
    conversations:
      overrides.conversations ??
      createConversations({
        config,
        store,
        engines,
        clock,
        ids,
        log,
        toolset: mcp.toolset,
        toolsReady: mcp.toolsReady,
      }),
    sandbox,
    terminals,
    mcp,
    async close() {
      if (overrides.terminals === undefined) await terminals.drain();
      if (overrides.mcp === undefined) await mcp.close();
      if (overrides.engines === undefined) await engines.close?.();
      if (overrides.sandbox === undefined) await sandbox.close();
      if (overrides.bus === undefined) await bus.close();
      if (overrides.store === undefined) await store.close();
      wrongCredentials.flush();
      log.flush();
    },
  };
}

type AdapterDeps = Pick<Services, 'config' | 'log' | 'clock'>;

async function createStore({ config, clock }: AdapterDeps): Promise<Store> {
  if (config.store === 'firestore') {
    const { createFirestoreStore } = await import('./store/firestore/firestore.ts');
    return createFirestoreStore({ projectId: projectOf(config), emulatorHost: config.emulators.firestore, clock });
  }
  const { createEmbeddedStore } = await import('./store/embedded/embedded.ts');
  return createEmbeddedStore({
    path: config.store === 'memory' ? ':memory:' : join(config.dataDir, 'gateway.sqlite'),
    clock,
  });
}

async function createBus({ config, log, clock }: AdapterDeps, store: Store): Promise<EventBus> {
  if (config.bus === 'pubsub') {
    const { createPubsubBus } = await import('./webhooks/bus/pubsub.ts');
    return createPubsubBus({
      projectId: projectOf(config),
      topic: config.topic,
      emulatorHost: config.emulators.pubsub,
    });
  }
  const { createLocalBus } = await import('./webhooks/bus/local-bus.ts');
  const bus = createLocalBus({ log });
  bus.subscribe('deployments', (event) => applyDeploymentEvent({ store, log, clock }, event));
  return bus;
}

async function createKeys({ config, log, clock }: AdapterDeps): Promise<Keys> {
  if (config.keys.source === 'environment') {
    const { createEnvKeys } = await import('./auth/keys/env-keys.ts');
    return createEnvKeys(config.keys.documents, {}, (message) => log.warn(message));
  }
  const { createSecretManagerKeys } = await import('./auth/keys/secret-manager.ts');
  return createSecretManagerKeys({ projectId: projectOf(config), clock, log });
}

/**
 * Undefined in a deployment without KMS_KEY: a local key would be lost with the instance, and other instances could not
 * use it.
 */
async function createKeyWrapper({ kmsKey, deployed, store, dataDir }: Config): Promise<KeyWrapper | undefined> {
  if (kmsKey !== undefined) {
    const { createKmsKeyWrapper } = await import('./auth/logins/kms.ts');
    return createKmsKeyWrapper({ keyName: kmsKey });
  }
  if (deployed) return undefined;
  return store === 'memory' ? createMemoryKeyWrapper() : createFileKeyWrapper(join(dataDir, 'login.key'));
}

function loginApis({ providerUrls, proxy }: Config): Parameters<typeof createLoginCheck>[0] {
  const { anthropic, openai, google, chatgpt } = providerUrls;
  return {
    ...(proxy && { fetch: createProxiedFetch(proxy) }),
    baseUrls: {
      anthropic: toBaseUrl(anthropic),
      openai: toBaseUrl(openai),
      google: toBaseUrl(google, 'v1beta'),
      chatgpt,
    },
  };
}

/** loadConfig has already refused a Google Cloud adapter without a project. */
function projectOf(config: Config): string {
  if (config.projectId === undefined) throw new Error('GOOGLE_CLOUD_PROJECT is not set');
  return config.projectId;
}
