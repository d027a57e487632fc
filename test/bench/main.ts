// `npm run bench [name ...]`: runs every bench beside this file (or the named ones) and prints the table; a run of all of them is written
// to RESULTS.md and RESULTS.json. Figures are ratios against a baseline of the same run; absolute values belong to the machine.
import { readdir } from 'node:fs/promises';
import { type BenchLine, printLines } from './bench.ts';
import { type Section, writeReport } from './report.ts';

interface Bench {
  run(): Promise<BenchLine[]>;
}

const wanted = process.argv.slice(2);
const files = (await readdir(import.meta.dirname)).filter((file) => file.endsWith('.ts')).sort();
const sections: Section[] = [];
const startMs = performance.now();
for (const file of files) {
  const name = file.slice(0, -'.ts'.length);
  if (name === 'main' || (wanted.length > 0 && !wanted.includes(name))) continue;
  const module: unknown = await import(new URL(file, import.meta.url).href);
  if (!isBench(module)) continue;
  console.log(`# ${name}`);
  const lines = await module.run();
  printLines(lines);
  sections.push({ name, lines });
}
if (wanted.length === 0) {
  const minutes = (performance.now() - startMs) / 60_000;
  console.log(`written: ${(await writeReport(import.meta.dirname, sections, minutes)).join(', ')}`);
} else console.log(JSON.stringify(sections));
process.exitCode = sections.every(({ lines }) => lines.every(({ met }) => met)) ? 0 : 1;

function isBench(module: unknown): module is Bench {
  return typeof module === 'object' && module !== null && 'run' in module && typeof module.run === 'function';
}
