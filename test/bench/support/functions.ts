// Starts the built bundle, and minimal functions as baselines, under the stock CLI on a port. The benches of functions
// share it.
import { execFile } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import path from 'node:path';
import { promisify } from 'node:util';
import { buildFunctions } from '../../../functions/build/main.ts';

const ROOT = path.resolve(import.meta.dirname, '../../..');
const DIRECTORY = path.join(ROOT, 'dist/bench');

/** Plain CommonJS, as in the quickstarts: it starts fastest, because Node neither strips types nor bundles. */
const BASELINES = {
  echo: `exports.echo = (req, res) => { res.json(req.body); };`,
  hello: `exports.hello = (req, res) => { res.send('Hello World!'); };`,
  read: `const { Firestore } = require('@google-cloud/firestore');
const firestore = new Firestore();
exports.read = async (req, res) => {
  const document = await firestore.doc('bench/read').get();
  res.json({ exists: document.exists });
};`,
};

export const KEY = 'bench-key';

/** Builds the bundle and writes the baselines; returns their directories. */
export async function prepareFunctions(): Promise<Record<keyof typeof BASELINES | 'bundle', string>> {
  const directory = (name: string): string => path.join(DIRECTORY, name);
  await buildFunctions(directory('bundle'));
  for (const [name, source] of Object.entries(BASELINES)) {
    await mkdir(directory(name), { recursive: true });
    await writeFile(path.join(directory(name), 'package.json'), '{"main":"index.js"}\n');
    await writeFile(path.join(directory(name), 'index.js'), source);
  }
  return { bundle: directory('bundle'), echo: directory('echo'), hello: directory('hello'), read: directory('read') };
}

/** Does what the build of a deployment does after it has installed the dependencies; returns the compile cache. */
export async function fillCompileCache(bundle: string): Promise<string> {
  await promisify(execFile)('npm', ['run', 'gcp-build'], { cwd: bundle });
  return path.join(bundle, 'compile-cache');
}

/** Arguments for node that run the stock CLI. */
export function cli(source: string, target: string): string[] {
  const main = path.join(ROOT, 'node_modules/@google-cloud/functions-framework/build/src/main.js');
  return [main, `--source=${source}`, `--target=${target}`];
}

/** A port that is free now: the baselines do not print the port that they listen on. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}
