// The sandbox ports over one link to the sandbox service, which the first call opens.
import { systemClock, type WallClock } from '../../clock.ts';
import type { SandboxAddress } from '../../config/config.ts';
import type { Logger } from '../../log.ts';
import type { SandboxPorts } from '../../sandbox-ports/ports.ts';
import type { TerminalEnding } from '../../terminals/terminals.ts';
import { createLinkKeeper } from '../link/connect/link-keeper.ts';
import type { LinkTimes } from '../link/link.ts';
import { type BootRecords, createBootFollower } from './boots.ts';
import { createRemoteCodex } from './codex.ts';
import { createRemoteCommands } from './commands.ts';
import { createLinkHeaders } from './credentials.ts';
import { eraseOver } from './erase.ts';
import { createRemoteStdioServers } from './stdio-servers.ts';
import { createTerminalEndings } from './terminal-endings.ts';
import { createRemoteTerminals } from './terminals.ts';

export interface RemotePortsDeps {
  readonly address: SandboxAddress;
  readonly log: Logger;
  /** Called once, for the log, when a terminal that this process has started ends. */
  onTerminalEnded(ending: TerminalEnding): void;
  /** The records of all gateway processes; undefined: this process stays with the boot that it reaches first. */
  readonly boots?: BootRecords | undefined;
  readonly clock?: WallClock;
  /** Shorter times for tests. */
  readonly times?: Partial<LinkTimes>;
}

export function createRemotePorts(deps: RemotePortsDeps): SandboxPorts {
  const { address, log, onTerminalEnded, boots: records, clock = systemClock, times } = deps;
  const boots = records && createBootFollower({ keeper: () => keeper, records, clock, log });
  const endings = createTerminalEndings(onTerminalEnded);
  const codex = createRemoteCodex(() => keeper);
  const keeper = createLinkKeeper({
    url: address.url,
    headers: createLinkHeaders(address),
    log,
    handlers: { 'terminal.ended': async (params) => endings.ended(params), ...codex.handlers },
    ...(times !== undefined && { times }),
    onOpen: (link) => boots?.opened(link),
    onElsewhere: () => boots?.elsewhere(),
  });
  return {
    commands: createRemoteCommands(keeper),
    terminals: createRemoteTerminals({ keeper, onStart: endings.started }),
    stdioServers: createRemoteStdioServers(keeper),
    codex: codex.host,
    erase: (erased, signal) => eraseOver(keeper, erased, signal),
    async close() {
      boots?.close();
      await keeper.close('the gateway has ended');
    },
  };
}
