// `npm run bench [name ...]`: runs every bench beside this file (or the named ones), prints the table, and the same as JSON on the last
// line. Figures are ratios against a baseline of the same run; absolute values belong to the machine.
import { readdir } from 'node:fs/promises';
import { type BenchLine, printLines } from './bench.ts';

interface Bench {
  run(): Promise<BenchLine[]>;
}

const wanted = process.argv.slice(2);
const files = (await readdir(import.meta.dirname)).filter((file) => file.endsWith('.ts')).sort();
const lines: BenchLine[] = [];
for (const file of files) {
  const name = file.slice(0, -'.ts'.length);
  if (name === 'main' || (wanted.length > 0 && !wanted.includes(name))) continue;
  const module: unknown = await import(new URL(file, import.meta.url).href);
  if (!isBench(module)) continue;
  console.log(`# ${name}`);
  const measured = await module.run();
  printLines(measured);
  lines.push(...measured);
}
console.log(JSON.stringify(lines));
process.exitCode = lines.every((line) => line.met) ? 0 : 1;

function isBench(module: unknown): module is Bench {
  return typeof module === 'object' && module !== null && 'run' in module && typeof module.run === 'function';
}
