// The Commands adapters pass the cases of their port.
import { commandsCases } from '../../../cases/sandbox/commands.cases.ts';
import { PORT_ADAPTERS } from '../../../support/fixtures/sandbox/sandbox-ports.ts';

for (const [name, create] of Object.entries(PORT_ADAPTERS)) commandsCases(name, create);
