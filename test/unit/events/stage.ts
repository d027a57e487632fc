// The webhook side of a gateway with nothing but real parts: embedded store in memory, limiter, keys, in-process bus, and the handlers
// behind a server on loopback. The bus and the store can be cut off, as a network would.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createDeploymentsHandler } from '../../../functions/deployments/handler.ts';
import { createWebhookHandler } from '../../../functions/webhook/handler.ts';
import { type Environment, loadConfig } from '../../../shared/config.ts';
import { createServices } from '../../../shared/create-services.ts';
import { RpcError } from '../../../shared/errors.ts';
import type { Delivery } from '../../../shared/events/interpret.ts';
import { createLocalBus, type LocalBus } from '../../../shared/events/local-bus.ts';
import type { OidcOptions } from '../../../shared/events/oidc.ts';
import { createGateway } from '../../../shared/gateway.ts';
import { createLogger } from '../../../shared/log.ts';
import type { Services } from '../../../shared/services.ts';
import { createEmbeddedStore } from '../../../shared/store/embedded.ts';
import { type Counted, countOperations, createTestClock, cutOff, type Line } from '../rate-limit/stores.ts';

/** The webhook of the reference document, byte for byte in shape. */
export const REFERENCE_EVENT = {
  event: 'deployment.success',
  timestamp: '2025-01-13T10:30:00Z',
  data: { service: 'wrapper', version: '486a13c9', region: 'us-central1', status: 'healthy' },
};

export interface Stage {
  readonly services: Services;
  readonly clock: ReturnType<typeof createTestClock>;
  /** `down` refuses at once, `deaf` does the work and loses the answer. */
  readonly store: Line;
  readonly counted: Counted;
  readonly local: LocalBus;
  /** Set to false, the bus takes nothing. */
  readonly wire: { up: boolean };
  readonly logged: string[];
  /** Starts the handlers; the URL has no trailing slash. */
  listen(options?: OidcOptions): Promise<string>;
  close(): Promise<void>;
}

export async function createStage(env: Environment = {}): Promise<Stage> {
  const config = loadConfig({ GATEWAY_STORE: 'memory', GATEWAY_BUS: 'local', ...env });
  const clock = createTestClock(Date.now());
  const counted = countOperations(createEmbeddedStore({ path: ':memory:', clock }));
  const store = cutOff(counted);
  const logged: string[] = [];
  const log = createLogger({ format: 'json', write: (text) => logged.push(text) });
  const local = createLocalBus({ log });
  const wire = { up: true };
  const services = await createServices(config, {
    log,
    clock,
    store,
    bus: {
      ...local,
      publish: async (event, options) => {
        if (!wire.up) throw new RpcError('unavailable');
        return local.publish(event, options);
      },
    },
  });
  let stop = async (): Promise<void> => {};
  return {
    services,
    clock,
    store,
    counted,
    local,
    wire,
    logged,
    async listen(options = {}) {
      const webhook = createWebhookHandler(services, createGateway(services, new Map()), options);
      const deployments = createDeploymentsHandler(services, options);
      const server = createServer((req, res) => void (req.url === '/deployments' ? deployments : webhook)(req, res));
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      stop = async () => {
        server.closeAllConnections();
        await new Promise((resolve) => server.close(resolve));
      };
      const { port } = server.address() as AddressInfo;
      return `http://127.0.0.1:${port}`;
    },
    async close() {
      await stop();
      await local.close();
      await store.close();
    },
  };
}

/** A delivery as the handler would hand it over. */
export function deliveryOf(body: unknown, fields: Partial<Delivery> = {}): Delivery {
  const bytes = body instanceof Uint8Array ? body : Buffer.from(typeof body === 'string' ? body : JSON.stringify(body));
  return { source: '/webhook/key/default', body: bytes, ...fields };
}
