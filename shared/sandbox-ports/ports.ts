// Everything that runs processes of callers, as the rest of the gateway uses it. One factory makes all of it, so that
// it can be in this process or in another.
import type { CodexHost } from '../codex-host/codex-host.ts';
import type { StdioServers } from '../mcp/stdio-servers.ts';
import type { Commands } from '../sandbox/commands.ts';
import type { Terminals } from '../terminals/terminals.ts';

export interface SandboxPorts {
  readonly commands: Commands;
  readonly terminals: Terminals;
  readonly stdioServers: StdioServers;
  readonly codex: CodexHost;
  /** Ends all processes and waits for their end. */
  close(): Promise<void>;
}
