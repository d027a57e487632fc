// A real gateway with a model provider on a real socket, and a proxy in front that can lose connections.
import { type ClientOptions, CodexGatewayClient } from '../../../shared/client/gateway-client.ts';
import { GatewayError } from '../../../shared/client/gateway-error.ts';
import type { Environment } from '../../../shared/config.ts';
import { type ModelProvider, startModelProvider } from '../../fakes/model-provider.ts';
import { type InProcessGateway, startInProcess } from '../../support/in-process.ts';
import { type CutProxy, startCutProxy } from './cut-proxy.ts';

export const KEY = 'dev-key';

export interface Stage {
  readonly gateway: InProcessGateway;
  readonly provider: ModelProvider;
  readonly proxy: CutProxy;
  /** A client that goes through the proxy. */
  client(options?: ClientOptions): CodexGatewayClient;
  close(): Promise<void>;
}

export async function createStage(env: Environment = {}): Promise<Stage> {
  const provider = await startModelProvider();
  const gateway = await startInProcess({
    ANTHROPIC_API_KEY: 'sk-test',
    ANTHROPIC_BASE_URL: provider.url,
    MODEL: 'anthropic/claude-sonnet-4-5',
    GATEWAY_LIMITS: '100000/minute',
    ...env,
  });
  const proxy = await startCutProxy(gateway.url);
  return {
    gateway,
    provider,
    proxy,
    client: (options) => new CodexGatewayClient(proxy.url, KEY, options),
    async close() {
      await proxy.stop();
      await gateway.close();
      await provider.close();
    },
  };
}

/** The GatewayError that a promise rejects with. */
export async function failure(promise: Promise<unknown>): Promise<GatewayError> {
  const error = await promise.then(
    () => new Error('it did not fail'),
    (thrown: unknown) => thrown,
  );
  if (error instanceof GatewayError) return error;
  throw error;
}
