// The table "What a million calls cost" of terraform/COST.md.
import { readDocument } from './documents.ts';

export interface CostRow {
  readonly call: string;
  /** Documents, counted as Firestore bills them. */
  readonly writes: number;
  readonly reads: number;
  readonly deletes: number;
  /** How long a request of the function, and the companion, are busy. */
  readonly functionMs: number;
  readonly companionMs: number;
  readonly logKib: number;
  readonly usdPerMillion: number;
}

const MS = { ms: 1, s: 1_000 } as const;

export function readCostTable(): CostRow[] {
  const [, section = ''] = readDocument('terraform/COST.md').split('## What a million calls cost');
  return [...section.matchAll(/^\| (?!call|-)(.*) \|$/gm)]
    .map(([, line = '']) => line.split(' | '))
    .filter((cells) => cells.length === 7)
    .map(([call = '', writes = '', reads = '', deletes = '', open = '', logs = '', usd = '']) => {
      const durations = [...open.matchAll(/(\d+) (ms|s)\b/g)].map(([, value, unit]) =>
        unit === 'ms' || unit === 's' ? Number(value) * MS[unit] : Number.NaN,
      );
      return {
        call,
        writes: Number.parseFloat(writes),
        reads: Number.parseFloat(reads),
        deletes: Number.parseFloat(deletes),
        functionMs: durations[0] ?? Number.NaN,
        companionMs: durations[1] ?? 0,
        logKib: Number.parseFloat(logs),
        usdPerMillion: Number(/\$([\d.]+)/.exec(usd)?.[1]),
      };
    });
}

/** The first row whose call starts with `call`. */
export function costOf(call: string): CostRow {
  const row = readCostTable().find((each) => each.call.startsWith(call));
  if (row === undefined) throw new Error(`no row of ${call}`);
  return row;
}
