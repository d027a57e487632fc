// The local gateway inside the test's own process: real parts, store in memory, a free port on loopback, the log
// captured.
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { createLocalServer } from '../../functions/local/server.ts';
import type { Environment } from '../../shared/config/environment.ts';
import { loadConfig } from '../../shared/config/load-config.ts';
import { createServices, type Overrides } from '../../shared/create-services.ts';
import { createLogger } from '../../shared/log.ts';
import type { Services } from '../../shared/services.ts';

export interface InProcessGateway {
  /** Without a trailing slash. */
  readonly url: string;
  readonly services: Services;
  /** Everything logged so far, one JSON object per line. */
  logged(): string;
  close(): Promise<void>;
}

/** `env` as for `npm start`; `overrides` replace adapters, as in createServices. */
export async function startInProcess(env: Environment = {}, overrides: Overrides = {}): Promise<InProcessGateway> {
  const lines: string[] = [];
  const log = createLogger({ format: 'json', write: (text) => lines.push(text) });
  const config = loadConfig({ GATEWAY_STORE: 'memory', GATEWAY_BUS: 'local', ...env });
  const services = await createServices(config, { log, ...overrides });
  const server = createLocalServer(services);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    services,
    logged() {
      log.flush();
      return lines.join('');
    },
    async close() {
      server.sockets.close();
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
      await services.conversations.drain(1_000);
      await services.close();
    },
  };
}
