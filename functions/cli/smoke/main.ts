// `npm run smoke -- URL`: checks a deployed gateway from outside, and ends with 0 when every check passed.
import { parseArgs } from 'node:util';
import { trimEnvironment } from '../../../shared/config/environment.ts';
import { localKey } from '../arguments.ts';
import { EXIT } from '../exit-codes.ts';
import { printable } from '../output.ts';
import { UsageError } from '../usage-error.ts';
import { runSmoke } from './run-smoke.ts';

const USAGE = `usage: npm run -s smoke -- [--ws URL] [--model MODEL] URL

Checks health, refusal of a wrong key, limits headers, a prompt, cancel, a webhook up to deployment.list, and the
WebSocket. It needs a key with the scopes conversation and webhook in GATEWAY_KEY (a local gateway: dev-key), and costs
some 20 calls and three short answers of the model.
`;

const interrupted = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.once(signal, () => interrupted.abort(new DOMException('interrupted', 'AbortError')));
}

try {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { ws: { type: 'string' }, model: { type: 'string' }, help: { type: 'boolean', short: 'h' } },
  });
  const env = trimEnvironment(process.env);
  const [url, ...rest] = positionals;
  if (values.help === true || url === undefined || rest.length > 0) {
    process.stderr.write(USAGE);
    process.exitCode = values.help === true ? EXIT.ok : EXIT.usage;
  } else {
    if (!URL.canParse(url)) throw new UsageError(`${url} is not a URL, such as https://gateway.example.com`);
    const failed = await runSmoke({
      url,
      key: env.GATEWAY_KEY ?? localKey(url),
      socketUrl: values.ws ?? env.GATEWAY_WS_URL,
      model: values.model,
      signal: interrupted.signal,
      out: (line) => process.stdout.write(`${printable(line)}\n`),
    });
    if (failed.length > 0) process.exitCode = EXIT.other;
  }
} catch (error) {
  process.exitCode = interrupted.signal.aborted ? EXIT.interrupted : EXIT.usage;
  process.stderr.write(`${printable(`smoke: ${error instanceof Error ? error.message : String(error)}`)}\n`);
}
