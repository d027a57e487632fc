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
import { type Config, projectOf } from './config/config.ts';
import { createConversations } from './conversations/conversations.ts';
import { createRollouts } from './conversations/records/rollouts.ts';
import { createEngines } from './engines/engines.ts';
import { createLogger, errorFields } from './log.ts';
import { createMcp } from './mcp/connections.ts';
import { toBaseUrl } from './net/base-url.ts';
import { createProxiedFetch } from './net/proxy.ts';
import { createDocumentLimiter } from './rate-limit/document-limiter.ts';
import { createBubblewrapSandbox, workspacesOf } from './sandbox/bubblewrap.ts';
import { auditCommand } from './sandbox/commands/audit.ts';
import type { Sandbox } from './sandbox/sandbox.ts';
import { createLocalPorts } from './sandbox-ports/local.ts';
import type { SandboxPorts } from './sandbox-ports/ports.ts';
import { createErasures } from './sandbox-records/erasures.ts';
import type { Services } from './services.ts';
import { createStore } from './store/create-store.ts';
import type { Store } from './store/store.ts';
import type { TerminalEnding } from './terminals/terminals.ts';
import { applyDeploymentEvent } from './webhooks/deployments.ts';
import type { EventBus } from './webhooks/event.ts';

/** Used instead of the configured adapters; the caller closes them. `sandbox` is what the ports in this process use. */
export type Overrides = Partial<Services> & { readonly sandbox?: Sandbox };

export async function createServices(config: Config, overrides: Overrides = {}): Promise<Services> {
  const log =
    overrides.log ?? createLogger({ format: config.logFormat, projectId: config.projectId, service: config.service });
  for (const warning of config.warnings) log.warn(warning);
  const clock = overrides.clock ?? systemClock;
  const ids = overrides.ids ?? randomIds;
  const tracer = overrides.tracer ?? (await createTracer(config));
  const parts = { config, log, clock };
  const [store, keys] = await Promise.all([
    overrides.store ?? createStore(config, clock),
    overrides.keys ?? createKeys(parts),
  ]);
  const bus = overrides.bus ?? (await createBus(parts, store));
  const ports = await createSandboxPorts({ ...parts, store }, overrides.sandbox);
  const codex = {
    host: ports.codex,
    state: createRollouts(store, clock),
    warn: warnWith(log),
  };
  const engines = overrides.engines ?? createEngines(config, { codex });
  const terminals = overrides.terminals ?? ports.terminals;
  const { stdioServers } = ports;
  const wrapper = await createKeyWrapper(config);
  const mcp = overrides.mcp ?? createMcp({ stdioServers, log, clock, store, wrapper, servers: config.mcpServers });
  const erasures =
    overrides.erasures ?? createErasures({ store, clock, log, sandbox: ports, place: placeOfSandbox(config) });
  const wrongCredentials =
    overrides.wrongCredentials ?? createWrongCredentials({ clock, log, isBehindFrontEnd: config.deployed });
  const limiter = overrides.limiter ?? createDocumentLimiter({ store, clock, log, hasBlocks: store.isRemote });
  return {
    config,
    log,
    tracer,
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
        tracer,
        toolset: mcp.toolset,
      }),
    commands: overrides.commands ?? ports.commands,
    terminals,
    mcp,
    erasures,
    async close() {
      const limiterClosed = overrides.limiter === undefined ? limiter.close?.() : undefined;
      if (overrides.erasures === undefined) await erasures.close();
      if (overrides.terminals === undefined) await terminals.drain();
      if (overrides.mcp === undefined) await mcp.close();
      if (overrides.engines === undefined) await engines.close?.();
      if (overrides.sandbox === undefined) await ports.close();
      if (overrides.bus === undefined) await bus.close();
      await limiterClosed;
      if (overrides.store === undefined) await store.close();
      if (overrides.tracer === undefined) await tracer?.close();
      wrongCredentials.flush();
      log.flush();
    },
  };
}

type AdapterDeps = Pick<Services, 'config' | 'log' | 'clock'>;

function warnWith(log: AdapterDeps['log']) {
  return (message: string, error: unknown): void => log.warn(message, error === undefined ? {} : errorFields(error));
}

/** `given`: on this sandbox. */
async function createSandboxPorts(
  { config, log, clock, store }: AdapterDeps & Pick<Services, 'store'>,
  given: Sandbox | undefined,
): Promise<SandboxPorts> {
  const { dataDir, searchPath, mcpServers: servers, sandbox: address } = config;
  const onTerminalEnded = ({ owner, requestId, argv, exitCode, durationMs }: TerminalEnding): void =>
    auditCommand(log, { requestId, keyId: owner, method: 'interactive.start', argv, exitCode, durationMs });
  if (address !== undefined && given === undefined) {
    const [{ createRemotePorts }, { createBootRecords }] = await Promise.all([
      import('./sandbox-link/client/remote-ports.ts'),
      import('./sandbox-records/boots.ts'),
    ]);
    const boots = createBootRecords({ store, clock, log, url: address.url });
    return createRemotePorts({ address, log, clock, onTerminalEnded, boots });
  }
  const sandbox = given ?? createBubblewrapSandbox({ directory: workspacesOf(dataDir), path: searchPath });
  const codex = { program: config.codexProgram, directory: join(dataDir, 'codex'), warn: warnWith(log) };
  return createLocalPorts({ sandbox, servers, codex, onTerminalEnded });
}

async function createTracer({ otlp }: Config): Promise<Services['tracer']> {
  if (otlp === undefined) return undefined;
  const { createOtlpTracer } = await import('./telemetry/otlp-tracer.ts');
  return createOtlpTracer(otlp);
}

function placeOfSandbox({ sandbox, companion }: Config): Parameters<typeof createErasures>[0]['place'] {
  if (sandbox !== undefined) return 'service';
  // Of a function, whose calls a companion runs.
  return companion.url === undefined || companion.caller !== undefined ? 'here' : 'elsewhere';
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
