// The companion, a Cloud Run service in addition to the functions: WebSockets, turns, and calls that need a process.
import * as methods from '../../shared/methods/index.ts';
import { createRegistry } from '../../shared/rpc/method.ts';
import { runProcess } from '../server/lifecycle/serve.ts';
import { createCompanionServer } from './companion.ts';

await runProcess((services) => ({
  server: createCompanionServer(services, createRegistry(Object.values(methods))),
  announce: (port) => services.log.info('companion listens', { port }),
}));
