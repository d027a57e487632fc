// The StdioServers adapters pass the cases of their port.
import { stdioServersCases } from '../../cases/sandbox/stdio-servers.cases.ts';
import { PORT_ADAPTERS } from '../../support/fixtures/sandbox/sandbox-ports.ts';

for (const [name, create] of Object.entries(PORT_ADAPTERS)) stdioServersCases(name, create);
