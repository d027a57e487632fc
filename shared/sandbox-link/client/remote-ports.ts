// The ports over one link to the sandbox service, opened by the first call that needs it.
import type { SandboxAddress } from '../../config/config.ts';
import type { Logger } from '../../log.ts';
import { sandboxUnavailable } from '../../sandbox/commands.ts';
import type { SandboxPorts } from '../../sandbox-ports/ports.ts';
import type { TerminalEnding } from '../../terminals/terminals.ts';
import type { LinkTimes } from '../link/link.ts';
import { createLinkKeeper } from '../link/link-keeper.ts';
import { createRemoteCommands } from './commands.ts';
import { createLinkHeaders } from './credentials.ts';
import { createRemoteStdioServers } from './stdio-servers.ts';
import { createTerminalEndings } from './terminal-endings.ts';
import { createRemoteTerminals } from './terminals.ts';

export interface RemotePortsDeps {
  readonly address: SandboxAddress;
  readonly log: Logger;
  /** Called once for each terminal that this process started and that has ended, for the log. */
  onTerminalEnded(ending: TerminalEnding): void;
  /** For tests. */
  readonly times?: Partial<LinkTimes>;
}

export function createRemotePorts({ address, log, onTerminalEnded, times }: RemotePortsDeps): SandboxPorts {
  const endings = createTerminalEndings(onTerminalEnded);
  const keeper = createLinkKeeper({
    url: address.url,
    headers: createLinkHeaders(address),
    log,
    handlers: { 'terminal.ended': async (params) => endings.ended(params) },
    ...(times !== undefined && { times }),
  });
  return {
    commands: createRemoteCommands(keeper),
    terminals: createRemoteTerminals({ keeper, onStart: endings.started }),
    stdioServers: createRemoteStdioServers(keeper),
    codex: {
      missing: () => undefined,
      warm: async () => {},
      async open() {
        const hint = 'unset SANDBOX_URL to run Codex beside the gateway';
        throw sandboxUnavailable({ ok: false, reason: 'Codex does not run in the sandbox service yet', hint });
      },
    },
    close: () => keeper.close('the gateway has ended'),
  };
}
