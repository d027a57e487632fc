// Parses limits: `100/minute,1000/hour,10000/day`, in the environment and in key documents.

/** `max` calls per window of `windowMs`, windows aligned to UTC. */
export interface Limit {
  readonly max: number;
  readonly windowMs: number;
}

const UNIT_MS: ReadonlyMap<string, number> = new Map([
  ['second', 1000],
  ['minute', 60_000],
  ['hour', 3_600_000],
  ['day', 86_400_000],
]);
const CALLS_MAX = 1_000_000_000;
const LIMIT = /^([1-9]\d{0,9})\/([a-z]+)$/;

/**
 * `'100/minute,1000/hour'` (or the parts as an array) -> limits in the given order. At least one, each unit (second,
 * minute, hour, day) at most once, 1 to 1e9 calls. Throws an Error whose message quotes the invalid part; limits are
 * not secret.
 */
export function parseLimits(text: string | readonly string[]): Limit[] {
  const parts = typeof text === 'string' ? text.split(',') : text;
  const limits = parts.map(parseLimit);
  if (limits.length === 0) throw new Error('limits must name at least one window, e.g. 100/minute');
  if (new Set(limits.map((limit) => limit.windowMs)).size < limits.length) {
    throw new Error('limits name the same window twice');
  }
  return limits;
}

/** Whether both are the same limits in the same order. */
export function areSameLimits(some: readonly Limit[], others: readonly Limit[]): boolean {
  if (some === others) return true;
  return (
    some.length === others.length &&
    some.every(({ max, windowMs }, index) => max === others[index]?.max && windowMs === others[index]?.windowMs)
  );
}

function parseLimit(part: string): Limit {
  const [, calls = '', unit = ''] = LIMIT.exec(part.trim()) ?? [];
  const windowMs = UNIT_MS.get(unit);
  const max = Number(calls);
  if (windowMs === undefined || max > CALLS_MAX) {
    throw new Error(
      `limit ${JSON.stringify(part.trim().slice(0, 40))} is not of the form 100/minute (second, minute, hour, day)`,
    );
  }
  return { max, windowMs };
}
