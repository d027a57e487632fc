// Writes the report of a run: a table for people and the same as JSON for programs, with a description of the machine.
import { readFile, writeFile } from 'node:fs/promises';
import { cpus, release, totalmem } from 'node:os';
import { join } from 'node:path';
import { type BenchLine, round } from './bench.ts';

export interface Section {
  readonly name: string;
  /** When it was measured, ISO 8601. */
  readonly at: string;
  readonly lines: readonly BenchLine[];
}

/** Writes RESULTS.md and RESULTS.json into `directory`; `measured` replaces the sections of the same name. */
export async function writeReport(directory: string, measured: readonly Section[]): Promise<void> {
  const machine = {
    cores: cpus().length,
    processor: cpus()[0]?.model.trim() ?? 'unknown',
    memory_gib: Math.round(totalmem() / 2 ** 30),
    kernel: release().split('-')[0],
    node: process.version,
  };
  const stored = await readSections(join(directory, 'RESULTS.json'));
  for (const section of measured) stored.set(section.name, section);
  const sections = [...stored.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  await writeFile(join(directory, 'RESULTS.json'), `${JSON.stringify({ machine, sections }, null, 2)}\n`);
  const all = sections.flatMap(({ lines }) => lines);
  const text = [
    '# Speed, with everything on',
    '',
    `\`npm run bench\` on ${machine.cores} cores (${machine.processor}), ${machine.memory_gib} GiB, Linux ${machine.kernel}, Node ` +
      `${machine.node}. **${all.filter(({ met }) => met).length} of ${all.length} targets met.**`,
    'Each line is a median of interleaved rounds beside its baseline of the same run. The ratio says how many times better than the baseline',
    'a line is; it is the result, absolute values belong to the machine.',
    ...sections.flatMap(({ name, at, lines }) => [
      '',
      `## ${name}, ${at.slice(0, 16).replace('T', ' ')} UTC`,
      '',
      ...toTable(lines),
    ]),
    '',
  ].join('\n');
  await writeFile(join(directory, 'RESULTS.md'), text);
}

async function readSections(path: string): Promise<Map<string, Section>> {
  const text = await readFile(path, 'utf8').catch(() => '{"sections":[]}');
  const { sections }: { readonly sections: readonly Section[] } = JSON.parse(text);
  return new Map(sections.map((section) => [section.name, section]));
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
