// A process loads nothing of the MCP protocol before the first server is connected, because its code takes a tenth of a
// second of every cold start.
import { execFileSync } from 'node:child_process';
import { expect, it } from 'vitest';
import { ROOT } from '../../support/fixtures/gateway/local-gateway.ts';

/** Prints the packages that a module of the gateway imports, by itself and through others. */
const PROGRAM = `
import { registerHooks } from 'node:module';
const packages = new Set();
registerHooks({
  resolve(specifier, context, next) {
    if (/^[@\\w]/.test(specifier) && !specifier.startsWith('node:')) packages.add(specifier);
    return next(specifier, context);
  },
});
await import(process.argv[1]);
console.log(JSON.stringify([...packages]));
`;

it.each(['mcp/connections.ts', 'create-services.ts'])('shared/%s loads nothing of the protocol', (file) => {
  const args = ['--input-type=module', '-e', PROGRAM, `${ROOT}/shared/${file}`];
  const packages: string[] = JSON.parse(execFileSync(process.execPath, args, { encoding: 'utf8' }));
  expect(packages).toContain('lru-cache');
  expect(packages.filter((name) => name.startsWith('@modelcontextprotocol/'))).toEqual([]);
});
