// Writes the report of a run: guarantees, faults, traffic. As Markdown for people and JSON for programs, without names
// of hosts or paths.
import { cpus, totalmem } from 'node:os';
import type { MemoryLine } from './audit/audit-counts.ts';
import type { DoneFault } from './fleet/faults.ts';
import { type Checks, GUARANTEES, type Guarantee } from './guarantees.ts';

export interface Run {
  readonly seed: number;
  readonly minutes: number;
  readonly checks: Checks;
  readonly faults: readonly DoneFault[];
  readonly counts: Readonly<Record<string, number>>;
  readonly memory: readonly MemoryLine[];
  /** Lines at severity ERROR, by message. */
  readonly errorsLogged: Readonly<Record<string, number>>;
}

/** The run as data. */
export function toResults(run: Run) {
  const names = Object.keys(GUARANTEES) as Guarantee[];
  return {
    seed: run.seed,
    minutes: run.minutes,
    machine: {
      cores: cpus().length,
      memory_gb: Math.round(totalmem() / 2 ** 30),
      node: process.version,
      platform: `${process.platform} ${process.arch}`,
    },
    violations: run.checks.violations,
    guarantees: names.map((name) => ({ name, description: GUARANTEES[name], ...run.checks.tally(name) })),
    faults: run.faults.map(({ atMs, kind, detail, lastedMs }) => ({
      at_s: Math.round(atMs / 1_000),
      kind,
      detail,
      lasted_s: Math.round(lastedMs / 100) / 10,
    })),
    traffic: run.counts,
    memory: run.memory.map(({ instance, quartersMb }) => ({ instance, quarters_mb: quartersMb })),
    errors_logged: run.errorsLogged,
  };
}

/** In the layout of this repository's formatter: lists of numbers on one line. */
export function toJson(results: ReturnType<typeof toResults>): string {
  const text = JSON.stringify(results, undefined, 2);
  const flat = text.replace(/\[\s+([\d.,\s]+?)\s+\]/g, (_, numbers: string) => `[${numbers.replace(/\s+/g, ' ')}]`);
  return `${flat}\n`;
}

export function toMarkdown(results: ReturnType<typeof toResults>): string {
  const { machine, guarantees, faults, traffic, memory } = results;
  const kinds = Map.groupBy(faults, ({ kind }) => kind);
  const broken = guarantees.filter(({ cases }) => cases.length > 0);
  return [
    '# Fault test: results',
    '',
    `\`npm run soak ${results.minutes}\`, seed ${results.seed}: 23 keys on 3 gateway processes, one Firestore emulator that is`,
    `0 to 40 ms away, one Pub/Sub emulator and a model provider, for ${results.minutes} minutes with a fault every 15 s,`,
    `then the audit. ${machine.cores} cores, ${machine.memory_gb} GB, Node ${machine.node}, ${machine.platform}.`,
    '',
    `**${faults.length} faults, ${traffic.calls ?? 0} calls, ${traffic.turns ?? 0} turns, ${results.violations} violations.**`,
    '',
    '| guarantee | checked | violations |',
    '|---|---:|---:|',
    ...guarantees.map(({ description, checked, violations }) => `| ${description} | ${checked} | ${violations} |`),
    '',
    ...broken.flatMap(({ name, cases }) => [`Violations of \`${name}\`:`, '', ...cases.map((text) => `- ${text}`), '']),
    '## Faults',
    '',
    '| fault | times | at second |',
    '|---|---:|---|',
    ...[...kinds].map(([kind, list]) => `| ${kind} | ${list.length} | ${list.map(({ at_s }) => at_s).join(', ')} |`),
    '',
    'Meanwhile clients leave in the middle of a stream and resume on another instance, cancel from another instance, send idempotency',
    'keys and webhook deliveries to several instances at once, read slowly, try sessions of other keys, and exceed their limits. They',
    'send images, settings, schemas and fallbacks, edit, fork and name sessions, follow turns together, let sessions expire, export and',
    'erase all that they have; one owner calls 1.5 times as often as its limit of 1,200 a minute allows, on every instance.',
    'Outages of Firestore and Pub/Sub are SIGSTOP and SIGCONT, because an emulator loses its data when it ends. One instance is never',
    'restarted, so that its memory covers the whole run; heaps are capped at 256 MB, as in a small container.',
    '',
    '## Traffic',
    '',
    '| what | count |',
    '|---|---:|',
    ...Object.entries(traffic)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([what, count]) => `| ${what} | ${count} |`),
    '',
    ...memory.map(({ instance, quarters_mb }) => {
      return `Resident memory of instance ${instance}, median of each quarter: ${quarters_mb.join(', ')} MB.`;
    }),
    '',
  ].join('\n');
}
