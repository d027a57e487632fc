// The fake provider as a process of its own: `node test/support/fakes/model-provider/model-provider-main.ts --port 0`
// prints `model provider ready at URL`. `GET /__requests` returns the requests that it received, `POST /__reset` clears
// them; SIGTERM or SIGINT ends it.
import { writeSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { startModelProvider } from './model-provider.ts';

const { values } = parseArgs({ options: { port: { type: 'string', default: '0' } } });
const provider = await startModelProvider({ port: Number(values.port) });
writeSync(1, `model provider ready at ${provider.url}\n`);
for (const signal of ['SIGTERM', 'SIGINT']) process.once(signal, () => void provider.close());
