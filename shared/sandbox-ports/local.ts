// The ports in this process, on the sandbox of this machine.
import { createLocalStdioServers, type LocalStdioServersDeps } from '../mcp/local-stdio-servers.ts';
import type { Sandbox } from '../sandbox/sandbox.ts';
import { createLocalTerminals, type TerminalsOptions } from '../terminals/local-terminals.ts';
import type { TerminalEnding } from '../terminals/terminals.ts';
import type { SandboxPorts } from './ports.ts';

export interface LocalPortsDeps {
  readonly sandbox: Sandbox;
  /** MCP servers that the administrator registered, by name. */
  readonly servers: LocalStdioServersDeps['servers'];
  /** Called once for each terminal that has ended, for the log. */
  onTerminalEnded(ending: TerminalEnding): void;
  /** Defaults are those of the product. */
  readonly terminals?: TerminalsOptions;
}

/** `close` of the ports closes the sandbox, too. */
export function createLocalPorts({ sandbox, servers, onTerminalEnded, ...limits }: LocalPortsDeps): SandboxPorts {
  const terminals = createLocalTerminals({ sandbox, onEnded: onTerminalEnded }, limits.terminals);
  return {
    commands: {
      available: () => sandbox.available(),
      // Member by member: a command has no other right than these.
      run: ({ keyId, argv, cwd, env }, options) => sandbox.run({ keyId, argv, cwd, env }, options),
    },
    terminals,
    stdioServers: createLocalStdioServers({ sandbox, servers }),
    launcher: sandbox,
    async close() {
      await terminals.drain();
      await sandbox.close();
    },
  };
}
