// The report of a whole run: one table for people, the same as JSON for programs, with the machine it was made on.
import { writeFile } from 'node:fs/promises';
import { cpus, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { type BenchLine, round } from './bench.ts';

export interface Section {
  readonly name: string;
  readonly lines: readonly BenchLine[];
}

/** Writes RESULTS.md and RESULTS.json into `directory`; resolves to their names. `minutes`: how long the run took. */
export async function writeReport(directory: string, sections: readonly Section[], minutes: number): Promise<string[]> {
  const machine = {
    cores: cpus().length,
    processor: cpus()[0]?.model.trim() ?? 'unknown',
    memory_gib: Math.round(totalmem() / 2 ** 30),
    kernel: release().split('-')[0],
    node: process.version,
  };
  const at = new Date().toISOString();
  await writeFile(
    join(directory, 'RESULTS.json'),
    `${JSON.stringify({ at, minutes: round(minutes), machine, sections }, null, 2)}\n`,
  );
  const all = sections.flatMap(({ lines }) => lines);
  const text = [
    '# Speed, with everything on',
    '',
    `\`npm run bench\`, ${at.slice(0, 10)}, ${Math.round(minutes)} min on ${machine.cores} cores (${machine.processor}), ${machine.memory_gib} GiB, ` +
      `Linux ${machine.kernel}, Node ${machine.node}. ${all.filter(({ met }) => met).length} of ${all.length} targets met.`,
    'Each line is a median of interleaved rounds beside its baseline of the same run. The ratio says how many times better than the baseline',
    'a line is; it is the result, absolute values belong to the machine.',
    ...sections.flatMap(({ name, lines }) => ['', `## ${name}`, '', ...toTable(lines)]),
    '',
  ].join('\n');
  await writeFile(join(directory, 'RESULTS.md'), text);
  return ['RESULTS.md', 'RESULTS.json'];
}

function toTable(lines: readonly BenchLine[]): string[] {
  const cell = (text: string): string => text.replaceAll('|', '\\|');
  return [
    '| what | measured | baseline | ratio | target | met |',
    '|---|---|---|---|---|---|',
    ...lines.map(({ name, value, unit, baseline, baselineName, ratio, target, met, notes }) => {
      const against = baseline === undefined ? '' : `${round(baseline)} ${unit}: ${baselineName}`;
      const what = notes === undefined ? name : `${name} (${notes})`;
      const cells = [
        what,
        `${round(value)} ${unit}`,
        against,
        ratio === undefined ? '' : `${round(ratio)}x`,
        target,
        met ? 'yes' : '**no**',
      ];
      return `| ${cells.map(cell).join(' | ')} |`;
    }),
  ];
}
