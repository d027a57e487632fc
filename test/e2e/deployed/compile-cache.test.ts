// The build of a deployment fills Node's compile cache, and the stock CLI starts a function from it.
import { execFile } from 'node:child_process';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { copyBundle } from '../../support/fixtures/gateway/bundles.ts';
import { ROOT, startFunction } from '../../support/fixtures/gateway/functions-cli.ts';

const run = promisify(execFile);
/** As the buildpack does for the function of the deployment. */
const build = () => run('npm', ['run', 'gcp-build'], { cwd: bundle, env: { ...process.env, ...TARGET } });
const TARGET = { GOOGLE_FUNCTION_TARGET: 'jsonrpc' };
const env = { GATEWAY_STORE: 'memory', GATEWAY_BUS: 'local', GATEWAY_API_KEY: 'dev-key' };

let bundle: string;

beforeAll(async () => {
  // Below the project, where the bundle finds the framework.
  bundle = await mkdtemp(join(ROOT, 'node_modules/.cache/compile-cache-'));
  await copyBundle('functions', bundle);
});
afterAll(() => rm(bundle, { recursive: true, force: true }));

it('a deployed function starts with modules that its build has compiled', async () => {
  expect((await build()).stdout).toContain('jsonrpc: its modules are compiled');
  const started = await startFunction({
    source: bundle,
    target: 'jsonrpc',
    env: { ...env, NODE_COMPILE_CACHE: join(bundle, 'compile-cache'), NODE_DEBUG_NATIVE: 'COMPILE_CACHE' },
  });
  await started.stop();
  const lines = started.output().split('\n');
  const ofModules = (what: string) => lines.filter((line) => line.includes(bundle) && line.includes(what));
  expect(ofModules('was accepted').length).toBeGreaterThan(50);
  expect(ofModules('was rejected')).toEqual([]);
});

it('the build succeeds when a function cannot start, and without a place for the cache', async () => {
  await rm(join(bundle, 'compile-cache'), { recursive: true, force: true });
  await writeFile(join(bundle, 'compile-cache'), '');
  await build();
  await writeFile(join(bundle, 'index.js'), 'throw new Error("cannot start");');
  expect((await build()).stderr).toContain('jsonrpc: its modules are not compiled before its instances start');
  expect(await readdir(bundle)).toContain('fill-compile-cache.js');
});
