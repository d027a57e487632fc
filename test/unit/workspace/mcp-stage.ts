// MCP connections of real servers in real sandboxes, for the suites beside this file.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import { systemClock } from '../../../shared/clock.ts';
import { loadConfig, type McpServer } from '../../../shared/config.ts';
import { createLogger } from '../../../shared/log.ts';
import { createBubblewrapSandbox } from '../../../shared/workspace/bubblewrap.ts';
import { createMcp, type Mcp, type McpHandle } from '../../../shared/workspace/mcp.ts';
import type { ServerConfig } from '../../../shared/workspace/mcp-connect.ts';
import type { McpConnection } from '../../../shared/workspace/mcp-link.ts';
import type { RunResult } from '../../../shared/workspace/sandbox.ts';
import { ROOT } from '../../support/local-gateway.ts';

const MODULES = join(ROOT, 'node_modules');
export const TEST_MODULES = join(ROOT, 'test/node_modules');
export const NODE = join(MODULES, 'node/bin/node');
const FAKES = join(ROOT, 'test/fakes');

/** `MCP_SERVERS` for the official example servers and the fake in each of its modes. */
export function registeredServers(modes: readonly string[], marker = ''): Record<string, object> {
  const official = (name: string, ...args: string[]) => ({
    command: NODE,
    args: [join(TEST_MODULES, `@modelcontextprotocol/server-${name}/dist/index.js`), ...args],
    paths: [MODULES, TEST_MODULES],
  });
  const fake = (mode: string) => ({
    command: NODE,
    args: [join(FAKES, 'mcp-server.ts'), mode, marker],
    paths: [MODULES, TEST_MODULES, FAKES],
  });
  return {
    everything: official('everything', 'stdio', marker),
    files: official('filesystem', '/home/user'),
    ...Object.fromEntries(modes.map((mode) => [mode, fake(mode)])),
  };
}

/** What the stages of a file leave to be ended, last first; a hook called inside a test would never run. */
const endings: (() => unknown)[] = [];
afterAll(async () => {
  for (const end of endings.splice(0).reverse()) await end();
});

/** Runs after the file's last test. */
export function endAfterwards(end: () => unknown): void {
  endings.push(end);
}

export interface McpStage {
  readonly mcp: Mcp;
  readonly logged: string[];
  /** A command in the workspace of the key that connects. */
  sh(script: string): Promise<RunResult>;
  connect(handle: Partial<McpHandle> & { name: string }, options?: ConnectOptions): Promise<McpConnection>;
  call(handle: Partial<McpHandle> & { name: string }, tool: string, args?: object): ReturnType<Mcp['call']>;
}

export interface ConnectOptions {
  readonly config?: ServerConfig;
  readonly allowedTools?: readonly string[];
  readonly signal?: AbortSignal;
}

export async function createMcpStage(
  servers: Record<string, object>,
  options: { readonly idleMs?: number } = {},
): Promise<McpStage> {
  const directory = await mkdtemp(join(tmpdir(), 'mcp-'));
  const sandbox = createBubblewrapSandbox({ directory, path: process.env.PATH ?? '' });
  endAfterwards(() => rm(directory, { recursive: true, force: true }));
  endAfterwards(() => sandbox.close());
  const logged: string[] = [];
  const log = createLogger({ format: 'json', write: (text) => logged.push(text) });
  const registered: ReadonlyMap<string, McpServer> = loadConfig({ MCP_SERVERS: JSON.stringify(servers) }).mcpServers;
  const mcp = createMcp({ sandbox, log, clock: systemClock, servers: registered, ...options });
  endAfterwards(() => mcp.close());
  const signal = new AbortController().signal;
  const whole = (handle: Partial<McpHandle> & { name: string }) => ({ owner: 'a', sessionId: 's', ...handle });
  return {
    mcp,
    logged,
    sh: (script) =>
      sandbox.run(
        { keyId: 'a', argv: ['/bin/sh', '-c', script] },
        { signal, timeoutMs: 10_000, outputBytesMax: 1 << 16 },
      ),
    connect: (handle, how = {}) =>
      mcp.connect(whole(handle), {
        config: how.config ?? { name: handle.name },
        allowedTools: how.allowedTools,
        requestId: 'req_1',
        signal: how.signal ?? signal,
      }),
    call: (handle, tool, args = {}) =>
      mcp.call(whole(handle), { tool, arguments: { ...args }, timeoutMs: 15_000, signal }),
  };
}
