// Reads the output of the gateways: it must contain nothing secret and no unhandled rejection. Counts the errors.
import type { Checks } from '../guarantees.ts';

const ERROR_LINES_MAX = 40;

/** Lines at severity ERROR: how many by message, and the first of them. */
export interface ErrorsLogged {
  readonly counts: Readonly<Record<string, number>>;
  readonly lines: readonly string[];
}

export interface ProcessOutput {
  /** `output`: the whole of a process of the instance. */
  check(instance: { readonly name: string; readonly life: number }, output: string): void;
  readonly errors: ErrorsLogged;
}

/** `forbidden`: must not occur in any output. */
export function createProcessOutput(checks: Checks, forbidden: readonly string[]): ProcessOutput {
  const counts: Record<string, number> = {};
  const lines: string[] = [];
  return {
    check({ name, life }, output) {
      checks.check('secrets', !forbidden.some((secret) => output.includes(secret)), () => {
        const line = output.split('\n').find((text) => forbidden.some((secret) => text.includes(secret)));
        return `${name}: ${line}`;
      });
      for (const [line, message = ''] of output.matchAll(/^\{"severity":"ERROR".*?"message":"([^"]*)".*$/gm)) {
        counts[message] = (counts[message] ?? 0) + 1;
        // An outage fills the list, so internal errors, which no outage explains, have room of their own.
        const isInternal = line.includes('"outcome":"internal"') && lines.length < 2 * ERROR_LINES_MAX;
        if (isInternal || lines.length < ERROR_LINES_MAX) lines.push(`${name}${life} ${line}`);
      }
      const unhandled = output.split('\n').find((line) => line.includes('a rejection was not handled'));
      checks.check('crashes', unhandled === undefined, () => `${name}: ${unhandled}`);
    },
    errors: { counts, lines },
  };
}
