// `node test/support/builds/deployables.ts DIRECTORY` builds what is deployed when a source has changed, and prints the
// directory with the bundles `functions`, `companion` and `sandbox` and what esbuild reports about them. A run builds
// them once for all suites; a test of the build compares another one with them.
import { randomUUID } from 'node:crypto';
import { mkdir, readdir, symlink, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { isCurrent, removeOld, writeRecord } from './build-record.ts';

const ROOT = resolve(import.meta.dirname, '../../..');
const RECORD = 'inputs.json';
const WAIT_MS = 120_000;

async function findCurrent(parent: string): Promise<string | undefined> {
  for (const name of await readdir(parent)) {
    const directory = join(parent, name);
    if (await isCurrent(join(directory, RECORD), import.meta.filename)) return directory;
  }
  return undefined;
}

async function build(directory: string): Promise<string> {
  const startedMs = Date.now();
  const { buildCompanion, buildFunctions, buildSandbox } = await import('../../../functions/build/main.ts');
  const at = (name: string): string => join(directory, name);
  const [functions, companion, sandbox] = await Promise.all([
    buildFunctions(at('functions')),
    buildCompanion(at('companion')),
    buildSandbox(at('sandbox')),
  ]);
  await mkdir(at('metafiles'));
  await Promise.all([
    // The image of the sandbox service installs these packages.
    symlink(join(ROOT, 'node_modules'), at('sandbox/node_modules')),
    writeFile(at('metafiles/functions.json'), JSON.stringify(functions)),
    writeFile(at('metafiles/sandbox.json'), JSON.stringify(sandbox)),
  ]);
  const inputs = [functions, companion, sandbox].flatMap((metafile) => Object.keys(metafile.inputs));
  const others = ['package.json', 'package-lock.json', 'test/package-lock.json', 'functions/sandbox/Containerfile'];
  const program = (await readdir(join(ROOT, 'functions/build'))).map((name) => `functions/build/${name}`);
  await writeRecord(at(RECORD), [...inputs, ...others, ...program, import.meta.filename], startedMs);
  return directory;
}

const parent = resolve(process.argv[2] ?? '');
await mkdir(parent, { recursive: true });
// One build at a time: a process that waits for another one uses its result. The lock ends with the process.
const lock = new DatabaseSync(join(parent, 'lock.sqlite'), { timeout: WAIT_MS });
lock.exec('BEGIN IMMEDIATE');
const directory = (await findCurrent(parent)) ?? (await build(join(parent, randomUUID())));
await removeOld(parent, new Set([directory, join(parent, 'lock.sqlite')]));
process.stdout.write(directory);
