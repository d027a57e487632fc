// What the sandbox service answers on its links, from the ports in its process.
import type { SandboxPorts } from '../../sandbox-ports/ports.ts';
import type { Handlers } from '../link/link.ts';
import { createCommandHandlers } from './command-handlers.ts';
import { createServerHandlers } from './server-handlers.ts';
import { createSpecs } from './specs.ts';
import { createStarts } from './starts.ts';
import { createTerminalHandlers } from './terminal-handlers.ts';

/** One set for all links of a service: a start that is repeated on another link is recognized. */
export function createLinkHandlers({ commands, terminals, stdioServers }: SandboxPorts): Handlers {
  const shared = { starts: createStarts(), specs: createSpecs() };
  return {
    ...createCommandHandlers({ commands, ...shared }),
    ...createTerminalHandlers({ terminals, ...shared }),
    ...createServerHandlers({ stdioServers, ...shared }),
  };
}
