// What the suites of this folder attack: the local gateway with real parts, and around it, on loopback, everything it may speak to (a
// provider, a backend, an MCP server), so that no request of a fuzzer leaves the machine.
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Environment } from '../../shared/config.ts';
import { createBubblewrapSandbox } from '../../shared/workspace/bubblewrap.ts';
import { startModelProvider } from '../fakes/model-provider.ts';
import { type InProcessGateway, startInProcess } from '../support/in-process.ts';
import { createMcpListener } from '../support/mcp-listener.ts';

/** Administrator's names of one and the same MCP server. */
export const MCP_NAMES = ['tools-a', 'tools-b'] as const;

export interface FuzzStage {
  readonly gateway: InProcessGateway;
  close(): Promise<void>;
}

export interface FuzzStageOptions {
  readonly env?: Environment;
  /** Whether the sandbox of this machine is there; default: no process starts, whatever is asked. */
  readonly sandbox?: boolean;
}

/** Everything is limited so widely that only mistakes are refused. */
export async function createFuzzStage({ env = {}, sandbox = false }: FuzzStageOptions = {}): Promise<FuzzStage> {
  const directory = mkdtempSync(join(tmpdir(), 'fuzz-'));
  const provider = await startModelProvider();
  const backend = await listen((req, res) => {
    req.resume().once('end', () => res.writeHead(200, { 'content-type': 'application/json' }).end('{"ok":true}'));
  });
  const mcp = await listen(createMcpListener('calculator'));
  const gateway = await startInProcess(
    {
      GATEWAY_LIMITS: '1000000000/minute',
      GATEWAY_DATA_DIR: directory,
      PATH: process.env.PATH,
      BFF_BASE_URL: backend.url,
      ANTHROPIC_BASE_URL: provider.url,
      OPENAI_BASE_URL: provider.url,
      GOOGLE_BASE_URL: provider.url,
      CHATGPT_BASE_URL: `${provider.url}/backend-api`,
      MCP_SERVERS: JSON.stringify(Object.fromEntries(MCP_NAMES.map((name) => [name, { url: `${mcp.url}/mcp` }]))),
      ...env,
    },
    sandbox ? {} : { sandbox: createBubblewrapSandbox({ directory, path: '', bundled: false }) },
  );
  return {
    gateway,
    async close() {
      await gateway.close();
      await Promise.all([provider.close(), end(backend.server), end(mcp.server)]);
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

async function listen(listener: RequestListener): Promise<{ readonly server: Server; readonly url: string }> {
  const server = createServer(listener);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { server, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
}

async function end(server: Server): Promise<void> {
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
}
