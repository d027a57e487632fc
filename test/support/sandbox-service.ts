// Spawns the real sandbox service, as `npm run sandbox` does, on a free port or a given one.
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { TOKEN } from './fixtures/sandbox-ports.ts';
import type { SandboxSettings } from './fixtures/sandbox-settings.ts';
import { ROOT, startProgram } from './local-gateway.ts';

export interface SandboxService {
  /** Without a trailing slash. */
  readonly url: string;
  /** Sends a signal and waits for the end. */
  end(signal?: NodeJS.Signals): Promise<number | null>;
  output(): string;
  readonly pid: number | undefined;
}

export interface SandboxServiceOptions {
  readonly port?: number;
  readonly dataDir: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly settings?: SandboxSettings;
  /** What the program is started with, as `unshare`. */
  readonly prefix?: readonly string[];
}

/** Arguments of node and the environment for other settings of the link in a process that is started from source. */
export function withSettings(settings: SandboxSettings) {
  const shim = join(ROOT, 'test/support/fixtures/sandbox-settings.ts');
  return { nodeArgs: ['--import', shim], env: { SANDBOX_SETTINGS: JSON.stringify(settings) } };
}

export async function startSandboxService({
  port = 0,
  dataDir,
  env,
  settings = {},
  prefix = [],
}: SandboxServiceOptions): Promise<SandboxService> {
  const own = withSettings(settings);
  const [file = process.execPath, ...args] = [
    ...[...prefix, process.execPath, ...own.nodeArgs],
    join(ROOT, 'functions/sandbox/main.ts'),
  ];
  const command = [file, ...args] as const;
  const program = await startProgram(command, /^sandbox ready at (http:\/\/\S+)$/, {
    ...{ PORT: String(port), SANDBOX_TOKEN: TOKEN, GATEWAY_DATA_DIR: dataDir, GATEWAY_LOG: 'json' },
    ...own.env,
    ...env,
  });
  return {
    url: program.url,
    output: program.output,
    pid: program.child.pid,
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
