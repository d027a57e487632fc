// The handlers of the sandbox service for requests on its links, which use the ports in its process.
import type { LocalPorts } from '../../sandbox-ports/local.ts';
import type { Handlers } from '../link/link.ts';
import { EraseParams, readParams } from '../messages.ts';
import { createCodexHandlers } from './codex-handlers.ts';
import { createCommandHandlers } from './command-handlers.ts';
import { createServerHandlers } from './server-handlers.ts';
import { createSpecs } from './specs.ts';
import { createStarts } from './starts.ts';
import { createTerminalHandlers } from './terminal-handlers.ts';

export type ServedPorts = Pick<LocalPorts, 'commands' | 'terminals' | 'stdioServers' | 'codexHosts' | 'erase'>;

/** One set of handlers serves all links, so that a start that is repeated on another link is recognized. */
export function createLinkHandlers({ commands, terminals, stdioServers, codexHosts, erase }: ServedPorts): Handlers {
  const shared = { starts: createStarts(), specs: createSpecs() };
  return {
    ...createCommandHandlers({ commands, ...shared }),
    ...createTerminalHandlers({ terminals, ...shared }),
    ...createServerHandlers({ stdioServers, ...shared }),
    ...createCodexHandlers(codexHosts),
    async 'sandbox.erase'(params) {
      const { owner, session: sessionId, ago_ms: agoMs } = readParams(EraseParams, params);
      await erase({ owner, sessionId, agoMs });
      return null;
    },
  };
}
