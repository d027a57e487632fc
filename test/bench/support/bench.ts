// A bench reports one line per figure, beside its baseline of the same run.

/** One measured figure. `ratio` is how many times better than the baseline it is. */
export interface BenchLine {
  readonly name: string;
  readonly value: number;
  readonly unit: string;
  readonly baseline?: number;
  readonly baselineName?: string;
  readonly ratio?: number;
  /** As text, with its comparison: `<= 20`. */
  readonly target: string;
  readonly met: boolean;
  readonly notes?: string;
}

/** The middle value (the upper one of two). */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? 0;
}

/** Prints one row per line; a missed target is marked. */
export function printLines(lines: readonly BenchLine[]): void {
  for (const { name, value, unit, baseline, baselineName, ratio, target, met, notes } of lines) {
    const against =
      baseline === undefined
        ? ''
        : ` | ${baselineName} ${round(baseline)} ${unit}${ratio === undefined ? '' : `, ${round(ratio)}x`}`;
    console.log(
      `${met ? 'ok  ' : 'MISS'} ${name}: ${round(value)} ${unit} (target ${target})${against}${notes ? ` | ${notes}` : ''}`,
    );
  }
}

/** To four digits. */
export function round(value: number): number {
  return Number(value.toPrecision(4));
}
