// The entry point of every Cloud Function. Loads only the modules of the function that FUNCTION_TARGET names, runs it
// under the framework (server/framework.ts), and does not start with an invalid configuration, so that an invalid
// deployment fails before it receives traffic.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { createOrigins } from '../shared/auth/origins.ts';
import { systemClock } from '../shared/clock.ts';
import type { Config } from '../shared/config/config.ts';
import { trimEnvironment } from '../shared/config/environment.ts';
import { RpcError } from '../shared/errors.ts';
import type { CompanionService } from '../shared/forward/companion-service.ts';
import type { Gateway } from '../shared/gateway.ts';
import { createLogger } from '../shared/log.ts';
import type { MethodContext } from '../shared/methods/define-method.ts';
import type { AnyMethod } from '../shared/rpc/method.ts';
import type { Services } from '../shared/services.ts';
import { createHealthHandler } from './health/handler.ts';
import { type HardenOptions, hardenFramework } from './server/framework.ts';
import { sendError } from './server/http.ts';
import { surviveClosedOutput } from './server/lifecycle/closed-output.ts';
import { connectStore, warm } from './server/lifecycle/warm.ts';
import type { Relay } from './server/relay.ts';

interface FunctionDeps {
  readonly services: Services;
  readonly gateway: Gateway;
  readonly relay?: Relay;
  /** Resolves when the store has answered or cannot be reached. */
  readonly connected: Promise<void>;
  /** Loads what a forwarded call needs. Never rejects. */
  readonly warmCompanion: () => Promise<void>;
}

/**
 * The functions by name, which is also their path. Imports are dynamic, so that a function loads only its own modules.
 */
const FUNCTIONS: Readonly<Record<string, () => Promise<HardenOptions>>> = {
  async health() {
    // A plain probe uses no other service, so the services are created at the first verbose check. The handler itself
    // is small and loaded statically, which is faster than a dynamic import.
    let deps: Promise<FunctionDeps> | undefined;
    const lazyDeps = async (): Promise<FunctionDeps | undefined> => {
      // The account of the health function may not read the keys.
      if ((await readConfig()).keys.source === 'secret-manager') return undefined;
      deps ??= createDeps().catch((error: unknown) => {
        deps = undefined;
        throw error;
      });
      return deps;
    };
    const hasOrigins = process.env.ALLOWED_ORIGINS !== undefined;
    const { K_SERVICE: service, K_REVISION: version = 'unknown', GOOGLE_CLOUD_PROJECT: projectId } = process.env;
    const log = createLogger({
      format: 'json',
      projectId,
      service: service === undefined ? undefined : { service, version },
    });
    const origins = createOrigins(hasOrigins ? (await readConfig()).allowedOrigins : new Set(), log);
    return {
      handler: createHealthHandler(origins, lazyDeps),
      log,
      origins,
      close: async () => (await deps)?.services.close(),
    };
  },
  async jsonrpc() {
    // Called before other modules are loaded, so that a companion without instances starts while this instance does.
    const companion = await wakeCompanion(process.env);
    const loadMethods = async () => Object.values(await import('../shared/methods/index.ts'));
    const { services, gateway, relay, warmCompanion, connected } = await createDeps(loadMethods, companion);
    if (relay !== undefined) void warmCompanion();
    const [{ createJsonRpcHandler }, { tuneRuntime }] = await Promise.all([
      import('./jsonrpc/handler.ts'),
      import('./server/lifecycle/runtime.ts'),
    ]);
    await warm(services, ['keys'], connected);
    tuneRuntime();
    return { handler: createJsonRpcHandler(services, gateway, relay), ...settling(services) };
  },
  async webhook() {
    const { services, gateway, connected } = await createDeps();
    const { createWebhookHandler } = await import('./webhook/handler.ts');
    await warm(services, ['keys', 'bus'], connected);
    return { handler: createWebhookHandler(services, gateway), ...settling(services) };
  },
  async deployments() {
    const { services, connected } = await createDeps();
    const { createDeploymentsHandler } = await import('./deployments/handler.ts');
    await warm(services, [], connected);
    return { handler: createDeploymentsHandler(services), ...settling(services) };
  },
};

async function readConfig(): Promise<Config> {
  const { loadConfig } = await import('../shared/config/load-config.ts');
  return loadConfig(process.env);
}

/** Opens the connections to the companion if it runs the turns of this function. */
async function wakeCompanion({ COMPANION_URL: url, TURNS }: NodeJS.ProcessEnv): Promise<CompanionService | undefined> {
  // An invalid value is reported later, when the configuration is read.
  if (url === undefined || TURNS === 'function' || !/^https?:/i.test(url) || !URL.canParse(url)) return undefined;
  const { openCompanionService } = await import('../shared/forward/companion-service.ts');
  const service = openCompanionService(url);
  // Loading modules does not let the event loop send anything, so it waits until this is sent.
  await service.wake();
  return service;
}

async function createDeps(
  loadMethods: () => Promise<readonly AnyMethod<MethodContext>[]> = async () => [],
  companion?: CompanionService,
): Promise<FunctionDeps> {
  const config = await readConfig();
  const { createStore } = await import('../shared/store/create-store.ts');
  const store = await createStore(config, systemClock);
  const connected = connectStore(store);
  // The connection is opened while the other modules are loaded, between which the event loop runs.
  const methods = await afterEvents(loadMethods);
  const { createServices } = await afterEvents(() => import('../shared/create-services.ts'));
  const [{ createGateway }, { createRegistry }, { connectCompanion }] = await afterEvents(() =>
    Promise.all([
      import('../shared/gateway.ts'),
      import('../shared/rpc/method.ts'),
      import('../shared/forward/connect.ts'),
    ]),
  );
  const created = await createServices(config, { store });
  const close = async (): Promise<void> => {
    await created.close();
    await store.close();
  };
  const given = { ...created, close };
  const { registry, openExchange, warm: warmCompanion } = connectCompanion(createRegistry(methods), config, companion);
  const deps = { warmCompanion, connected };
  if (openExchange === undefined) return { services: given, gateway: createGateway(given, registry), ...deps };
  const { createRelay } = await import('./server/relay.ts');
  const { services, relay } = createRelay(given, openExchange);
  return { services, gateway: createGateway(services, registry), relay, ...deps };
}

/** Calls `load` when the events that have arrived are handled. */
async function afterEvents<T>(load: () => Promise<T>): Promise<T> {
  await nextTurn();
  return load();
}

function settling({ log, origins, tracer, conversations, close }: Services): Omit<HardenOptions, 'handler'> {
  return { log, origins, tracer, finish: (graceMs) => conversations.drain(graceMs), close };
}

/**
 * Returns the target like the framework: `--target name` or `--target=name` of the command line, else FUNCTION_TARGET.
 */
function functionTarget(argv: readonly string[], env: NodeJS.ProcessEnv): string | undefined {
  const at = argv.findLastIndex((argument) => argument === '--target' || argument.startsWith('--target='));
  const argument = argv[at];
  if (argument === undefined) return env.FUNCTION_TARGET;
  return argument === '--target' ? argv[at + 1] : argument.slice('--target='.length);
}

surviveClosedOutput();
trimEnvironment(process.env);
const target = functionTarget(process.argv, process.env);
const start = target !== undefined && Object.hasOwn(FUNCTIONS, target) ? FUNCTIONS[target] : undefined;
// For an unknown target, the framework reports an error and exits. The framework listens on every interface. Cloud Run
// needs that; elsewhere HOST is used, as for `npm start`.
const host = process.env.K_SERVICE === undefined ? process.env.HOST || '127.0.0.1' : undefined;
if (start !== undefined) hardenFramework({ ...(await start()), host });

/**
 * The functions that the framework's express app would call. They are not called, because framework.ts replaces the
 * server. If a later version of the framework creates its server in another way, every request is refused here, and not
 * served without protection.
 */
function refuse(_req: IncomingMessage, res: ServerResponse): void {
  sendError(res, new RpcError('unavailable', { message: 'the function does not run under its own server' }), 'none');
}

export { refuse as deployments, refuse as health, refuse as jsonrpc, refuse as webhook };
