// `npm run bench [name ...]`: runs every bench beside this file (or the named ones), prints the table and writes it to RESULTS.md and
// RESULTS.json, where a run of some leaves the others as they were. Figures are ratios against a baseline of the same run; absolute
// values belong to the machine.
import { readdir } from 'node:fs/promises';
import { type BenchLine, printLines } from './bench.ts';
import { type Section, writeReport } from './report.ts';

interface Bench {
  run(): Promise<BenchLine[]>;
}

const wanted = process.argv.slice(2);
const files = (await readdir(import.meta.dirname)).filter((file) => file.endsWith('.ts')).sort();
const sections: Section[] = [];
for (const file of files) {
  const name = file.slice(0, -'.ts'.length);
  if (name === 'main' || (wanted.length > 0 && !wanted.includes(name))) continue;
  const module: unknown = await import(new URL(file, import.meta.url).href);
  if (!isBench(module)) continue;
  console.log(`# ${name}`);
  const lines = await module.run();
  printLines(lines);
  sections.push({ name, at: new Date().toISOString(), lines });
}
console.log(`written: ${(await writeReport(import.meta.dirname, sections)).join(', ')}`);
process.exitCode = sections.every(({ lines }) => lines.every(({ met }) => met)) ? 0 : 1;

function isBench(module: unknown): module is Bench {
  return typeof module === 'object' && module !== null && 'run' in module && typeof module.run === 'function';
}
