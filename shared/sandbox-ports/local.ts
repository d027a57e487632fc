// The sandbox ports in this process, on the sandbox of this machine.
import { createLocalCodex, type LocalCodex, type LocalCodexOptions } from '../codex-host/local-codex.ts';
import { createLocalStdioServers, type LocalStdioServersDeps } from '../mcp/local-stdio-servers.ts';
import type { Sandbox } from '../sandbox/sandbox.ts';
import { createLocalTerminals, type TerminalsOptions } from '../terminals/local-terminals.ts';
import type { TerminalEnding } from '../terminals/terminals.ts';
import type { SandboxPorts } from './ports.ts';

export interface LocalPortsDeps {
  readonly sandbox: Sandbox;
  /** MCP servers that the administrator registered, by name. */
  readonly servers: LocalStdioServersDeps['servers'];
  readonly codex: Omit<LocalCodexOptions, 'launcher'>;
  /** Called once, for the log, when a terminal has ended. */
  onTerminalEnded(ending: TerminalEnding): void;
  /** Times and limits of terminals; tests use shorter ones. */
  readonly terminals?: TerminalsOptions;
}

export interface LocalPorts extends SandboxPorts {
  /** For the sandbox service, which runs Codex for several gateway processes. `codex` is the host of this process. */
  readonly codexHosts: Pick<LocalCodex, 'version' | 'hostFor' | 'endLink'>;
}

/** `close` of the ports also closes the sandbox. */
export function createLocalPorts({
  sandbox,
  servers,
  codex: settings,
  onTerminalEnded,
  ...limits
}: LocalPortsDeps): LocalPorts {
  const terminals = createLocalTerminals({ sandbox, onEnded: onTerminalEnded }, limits.terminals);
  const codex = createLocalCodex({ ...settings, launcher: sandbox });
  const stdioServers = createLocalStdioServers({ sandbox, servers });
  return {
    commands: {
      available: () => sandbox.available(),
      // Copies only these members, so that a command gets no other rights.
      run: ({ keyId, argv, cwd, env }, options) => sandbox.run({ keyId, argv, cwd, env }, options),
    },
    terminals,
    stdioServers,
    codex: codex.hostFor('this process'),
    codexHosts: codex,
    async erase({ owner, sessionId, agoMs }) {
      const beforeMs = performance.now() - agoMs;
      const isAll = sessionId === undefined;
      await Promise.all([terminals.erase({ owner, sessionId }, beforeMs), codex.endOwner(owner, beforeMs, isAll)]);
      if (isAll) await Promise.all([owner, ...stdioServers.keysOf(owner)].map(sandbox.erase));
    },
    async close() {
      await Promise.all([terminals.drain(), codex.close()]);
      await sandbox.close();
    },
  };
}
