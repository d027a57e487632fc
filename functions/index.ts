// The one `main` of every Cloud Function. Loads only what the function that FUNCTION_TARGET names needs, hosts it under
// the hardened framework, and refuses to start with a configuration that is not valid: a bad deployment fails before it
// takes traffic.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createOrigins } from '../shared/auth/origins.ts';
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
import { surviveClosedOutput } from './server/closed-output.ts';
import { type HardenOptions, hardenFramework } from './server/framework.ts';
import { sendError } from './server/http.ts';
import type { Relay } from './server/relay.ts';
import { warm } from './server/warm.ts';

interface FunctionDeps {
  readonly services: Services;
  readonly gateway: Gateway;
  readonly relay?: Relay;
  /** Loads what a forwarded call needs. Never rejects. */
  readonly warmCompanion: () => Promise<void>;
}

/**
 * Functions by name, which is also their path. Their imports are dynamic: what a function does not need, it does not
 * load.
 */
const FUNCTIONS: Readonly<Record<string, () => Promise<HardenOptions>>> = {
  async health() {
    // A probe touches nothing, so nothing is loaded for it (its handler is a few lines, cheaper to carry than to
    // fetch); the parts are built for the first verbose one.
    let parts: Promise<FunctionDeps> | undefined;
    const lazyParts = async (): Promise<FunctionDeps | undefined> => {
      // Its account reads no secret.
      if ((await readConfig()).keys.source === 'secret-manager') return undefined;
      parts ??= buildParts().catch((error: unknown) => {
        parts = undefined;
        throw error;
      });
      return parts;
    };
    const hasOrigins = process.env.ALLOWED_ORIGINS !== undefined;
    const log = createLogger();
    const origins = createOrigins(hasOrigins ? (await readConfig()).allowedOrigins : new Set(), log);
    return {
      handler: createHealthHandler(origins, lazyParts),
      log,
      origins,
      close: async () => (await parts)?.services.close(),
    };
  },
  async jsonrpc() {
    // Before anything else is loaded, so that a companion without instances starts at the same time as this instance.
    const companion = await wakeCompanion(process.env);
    const [{ createJsonRpcHandler }, methods, { tuneRuntime }] = await Promise.all([
      import('./jsonrpc/handler.ts'),
      import('../shared/methods/index.ts'),
      import('./server/runtime.ts'),
    ]);
    const { services, gateway, relay, warmCompanion } = await buildParts(Object.values(methods), companion);
    if (relay !== undefined) void warmCompanion();
    await warm(services, ['keys', 'store']);
    tuneRuntime();
    return { handler: createJsonRpcHandler(services, gateway, relay), ...settling(services) };
  },
  async webhook() {
    const { createWebhookHandler } = await import('./webhook/handler.ts');
    const { services, gateway } = await buildParts();
    await warm(services, ['keys', 'store', 'bus']);
    return { handler: createWebhookHandler(services, gateway), ...settling(services) };
  },
  async deployments() {
    const { createDeploymentsHandler } = await import('./deployments/handler.ts');
    const { services } = await buildParts();
    await warm(services, ['store']);
    return { handler: createDeploymentsHandler(services), ...settling(services) };
  },
};

async function readConfig(): Promise<Config> {
  const { loadConfig } = await import('../shared/config/load-config.ts');
  return loadConfig(process.env);
}

/** The connections to the companion, where this function has one that runs its turns. */
async function wakeCompanion({ COMPANION_URL: url, TURNS }: NodeJS.ProcessEnv): Promise<CompanionService | undefined> {
  // A value that is not valid is reported when the configuration is read.
  if (url === undefined || TURNS === 'function' || !/^https?:/i.test(url) || !URL.canParse(url)) return undefined;
  const { openCompanionService } = await import('../shared/forward/companion-service.ts');
  const service = openCompanionService(url);
  service.wake();
  return service;
}

async function buildParts(
  methods: readonly AnyMethod<MethodContext>[] = [],
  companion?: CompanionService,
): Promise<FunctionDeps> {
  const [config, { createServices }, { createGateway }, { createRegistry }, { connectCompanion }] = await Promise.all([
    readConfig(),
    import('../shared/create-services.ts'),
    import('../shared/gateway.ts'),
    import('../shared/rpc/method.ts'),
    import('../shared/forward/connect.ts'),
  ]);
  const given = await createServices(config);
  const { registry, openExchange, warm: warmCompanion } = connectCompanion(createRegistry(methods), config, companion);
  if (openExchange === undefined) return { services: given, gateway: createGateway(given, registry), warmCompanion };
  const { createRelay } = await import('./server/relay.ts');
  const { services, relay } = createRelay(given, openExchange);
  return { services, gateway: createGateway(services, registry), relay, warmCompanion };
}

function settling({ log, origins, tracer, conversations, close }: Services): Omit<HardenOptions, 'handler'> {
  return { log, origins, tracer, finish: (graceMs) => conversations.drain(graceMs), close };
}

/** As the framework reads it: `--target name` or `--target=name` of its command line, else FUNCTION_TARGET. */
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
// The framework reports an unknown target and exits. It listens on every interface. In a container of Cloud Run it
// must; elsewhere HOST decides, as for `npm start`.
const host = process.env.K_SERVICE === undefined ? process.env.HOST || '127.0.0.1' : undefined;
if (start !== undefined) hardenFramework({ ...(await start()), host });

/**
 * Where the framework's express app would call a function; it is never called, as the hardened server answers instead.
 * Were a later version of the framework to make its server in another way, every request would be refused here rather
 * than served unprotected.
 */
function refuse(_req: IncomingMessage, res: ServerResponse): void {
  sendError(res, new RpcError('unavailable', { message: 'the function is not hosted as it must be' }), 'none');
}

export { refuse as deployments, refuse as health, refuse as jsonrpc, refuse as webhook };
