// `npm run bench [name ...]`: runs every bench beside this file (or the named ones), prints the table and writes it to
// RESULTS.md and RESULTS.json, where a run of some keeps the lines of the others. Figures are ratios against a
// baseline of the same run; absolute values belong to the machine.
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type BenchLine, printLines } from './bench.ts';
import { writeReport } from './report.ts';

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
  const module: unknown = await import(new URL(`${name}.ts`, import.meta.url).href);
  if (!isBench(module)) throw new Error(`${name} is not a bench. Benches: ${allNames().join(', ')}`);
  console.log(`# ${name}`);
  const lines = await module.run();
  printLines(lines);
  await writeReport(directory, [{ name, at: new Date().toISOString(), lines }]);
  process.exitCode = lines.every(({ met }) => met) ? 0 : 1;
}

function allNames(): string[] {
  const isBenchFile = (file: string): boolean =>
    /^export async function run\(/m.test(readFileSync(join(directory, file), 'utf8'));
  return readdirSync(directory)
    .filter((file) => file.endsWith('.ts') && isBenchFile(file))
    .map((file) => file.slice(0, -'.ts'.length))
    .sort();
}

function isBench(module: unknown): module is Bench {
  return typeof module === 'object' && module !== null && 'run' in module && typeof module.run === 'function';
}
