// Processes that are MCP servers, behind their port.
import { stdioServersCases } from '../../cases/sandbox/stdio-servers.cases.ts';
import { PORT_ADAPTERS } from '../../support/fixtures/sandbox/sandbox-ports.ts';

for (const [name, create] of Object.entries(PORT_ADAPTERS)) stdioServersCases(name, create);
