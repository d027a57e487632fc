// The sandbox service, which runs the processes of callers if the gateway has SANDBOX_URL. It has no store, no keys of
// callers and no credentials of providers.
import { trimEnvironment } from '../../shared/config/environment.ts';
import { loadSandboxConfig } from '../../shared/config/sandbox-service.ts';
import { createLogger } from '../../shared/log.ts';
import { blockMetadataServer } from '../../shared/sandbox/network/metadata-server.ts';
import { runProgram, toUrl } from '../server/lifecycle/process.ts';
import { createSandboxServer } from './server.ts';

/** Cloud Run kills the process 10 s after SIGTERM. Ending the remaining processes takes up to 2 s of that. */
const DRAIN_MS = 6_000;

await runProgram(async () => {
  const config = loadSandboxConfig(trimEnvironment(process.env));
  await blockMetadataServer(config.servers, config.searchPath);
  const log = createLogger({ format: config.logFormat, service: config.service });
  for (const warning of config.warnings) log.warn(warning);
  const { http, ports, stop } = createSandboxServer(config, log);
  return {
    log,
    server: http,
    host: config.host,
    port: config.port,
    announce(port) {
      log.flush();
      process.stdout.write(`sandbox ready at ${toUrl(config.host, port)}\n`);
    },
    warm() {
      // Runs the self-test now, so that the first caller does not wait for it.
      void ports.commands.available().then((state) => {
        if (!state.ok) log.warn(`no command can run here: ${state.reason}; ${state.hint}`);
        else if (state.warning !== undefined) log.warn(state.warning);
      });
    },
    stop: () => stop(DRAIN_MS),
  };
});
