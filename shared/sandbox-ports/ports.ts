// The ports that run processes of callers. One factory creates all of them: in this process (local.ts), or over a link
// to the sandbox service.
import type { CodexHost } from '../codex-host/codex-host.ts';
import type { StdioServers } from '../mcp/stdio-servers.ts';
import type { Commands } from '../sandbox/commands.ts';
import type { Terminals } from '../terminals/terminals.ts';

/** What is erased: what runs for a session and the files of that session, or all of an owner. */
export interface Erased {
  readonly owner: string;
  /** Undefined: everything of the owner, the workspace included. */
  readonly sessionId?: string | undefined;
  /** Since when it was to be erased, milliseconds. What was started after that stays. */
  readonly agoMs: number;
}

export interface SandboxPorts {
  readonly commands: Commands;
  readonly terminals: Terminals;
  readonly stdioServers: StdioServers;
  readonly codex: CodexHost;
  /**
   * Resolves when it is erased, but for a Codex process with turns of other sessions: that goes at their end. Rejects
   * with RpcError `unavailable` when the sandbox cannot be reached, with the signal's reason when it aborts.
   */
  erase(erased: Erased, signal?: AbortSignal): Promise<void>;
  /** Ends all processes and waits for their end. */
  close(): Promise<void>;
}
