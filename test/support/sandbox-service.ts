// Spawns the real sandbox service, as `npm run sandbox` does, on a free port or a given one.
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { TOKEN } from './fixtures/sandbox-ports.ts';
import { ROOT, startProgram } from './local-gateway.ts';

export interface SandboxService {
  /** Without a trailing slash. */
  readonly url: string;
  /** Sends a signal and waits for the end. */
  end(signal?: NodeJS.Signals): Promise<number | null>;
  output(): string;
}

export interface SandboxServiceOptions {
  readonly port?: number;
  readonly dataDir: string;
  readonly env?: Readonly<Record<string, string>>;
}

export async function startSandboxService({ port = 0, dataDir, env }: SandboxServiceOptions): Promise<SandboxService> {
  const command = [process.execPath, join(ROOT, 'functions/sandbox/main.ts')] as const;
  const program = await startProgram(command, /^sandbox ready at (http:\/\/\S+)$/, {
    ...{ PORT: String(port), SANDBOX_TOKEN: TOKEN, GATEWAY_DATA_DIR: dataDir, GATEWAY_LOG: 'json' },
    ...env,
  });
  return {
    url: program.url,
    output: program.output,
    async end(signal = 'SIGTERM') {
      program.child.kill(signal);
      const [code] = await program.exited;
      return code;
    },
  };
}

/** A port that was free just now, for a service that is started again at the same place. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}
