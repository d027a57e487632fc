// `npm run bench [name ...]`: runs every bench in the folders beside this file (or the named ones), prints the table
// and writes it to RESULTS.md and RESULTS.json, where a run of some keeps the lines of the others. Figures are ratios
// against a baseline of the same run; absolute values belong to the machine.
import { spawnSync } from 'node:child_process';
import { globSync, readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { type BenchLine, printLines } from './support/bench.ts';
import { writeReport } from './support/report.ts';

interface Bench {
  run(): Promise<BenchLine[]>;
}

const directory = import.meta.dirname;
const [only, ...others] = process.argv.slice(2);
if (only !== undefined && others.length === 0) await runOne(only);
else {
  // Each in its own process: a spawn takes longer from a larger process, and benches spawn many.
  const names = only === undefined ? allNames() : [only, ...others];
  const failed = names.filter(
    (name) => spawnSync(process.execPath, [import.meta.filename, name], { stdio: 'inherit' }).status !== 0,
  );
  process.exitCode = failed.length === 0 ? 0 : 1;
}

async function runOne(name: string): Promise<void> {
  const file = benchFiles().get(name);
  if (file === undefined) throw new Error(`${name} is not a bench. Benches: ${allNames().join(', ')}`);
  const module: unknown = await import(pathToFileURL(file).href);
  if (!isBench(module)) throw new Error(`${file} has no function run`);
  console.log(`# ${name}`);
  const lines = await module.run();
  printLines(lines);
  await writeReport(directory, [{ name, at: new Date().toISOString(), lines }]);
  process.exitCode = lines.every(({ met }) => met) ? 0 : 1;
}

function allNames(): string[] {
  return [...benchFiles().keys()].sort();
}

/** The files of the benches, by name. */
function benchFiles(): ReadonlyMap<string, string> {
  const files = globSync('*/*.ts', { cwd: directory }).map((file) => join(directory, file));
  const benches = files.filter((file) => /^export async function run\(/m.test(readFileSync(file, 'utf8')));
  return new Map(benches.map((file) => [basename(file, '.ts'), file]));
}

function isBench(module: unknown): module is Bench {
  return typeof module === 'object' && module !== null && 'run' in module && typeof module.run === 'function';
}
