// What the soak checks, in words, and the tally: how often each was checked, how often it did not hold, and the first
// cases of that.

export const GUARANTEES = {
  admissions: 'No call is admitted above its key’s limit, over all instances',
  degraded: 'With the store away, cheap reads pass only the small bucket of each instance',
  answers: 'An acknowledged answer is whole, and in its session’s history exactly once',
  history: 'Histories have no gap, and nothing doubled, mixed up or foreign in them',
  usable: 'No turn still runs, and every session answers a new prompt',
  streams: 'Events of a turn come without gap, duplicate or change, from any instance',
  ends: 'Exactly one event ends a turn, and it is the last',
  terminal: 'A terminal state, once shown, never changes',
  cancel: 'An acknowledged cancel has ended the turn',
  idempotency: 'An idempotency key completes at most one turn, and always tells of the same',
  deleted: 'What is deleted stays deleted',
  recorded: 'An acknowledged webhook delivery is recorded exactly once',
  published: 'An acknowledged webhook delivery reaches a Pub/Sub subscription, unchanged',
  foreign: 'Another key’s session is answered exactly like a missing one',
  errors: 'No 5xx but a retryable 503 while something is down; nothing that is not JSON',
  secrets: 'No key, token or prompt in any log',
  crashes: 'No process ends by itself, and none on SIGTERM with an error',
  memory: 'Resident memory is flat: last quarter against the second, at most 20 % more',
} as const;

export type Guarantee = keyof typeof GUARANTEES;

export interface Tally {
  readonly checked: number;
  readonly violations: number;
  /** The first few, for a person. */
  readonly cases: readonly string[];
}

export interface Checks {
  /** `detail` says what was found; asked for only when it does not hold. */
  check(guarantee: Guarantee, holds: boolean, detail: () => string): void;
  tally(guarantee: Guarantee): Tally;
  readonly violations: number;
}

const CASES_MAX = 10;
const CASE_CHARS_MAX = 600;

export function createChecks(onViolation: (text: string) => void): Checks {
  const tallies = new Map<Guarantee, { checked: number; violations: number; cases: string[] }>();
  const of = (guarantee: Guarantee) => {
    const found = tallies.get(guarantee) ?? { checked: 0, violations: 0, cases: [] };
    tallies.set(guarantee, found);
    return found;
  };
  let violations = 0;
  return {
    check(guarantee, holds, detail) {
      const tally = of(guarantee);
      tally.checked++;
      if (holds) return;
      tally.violations++;
      violations++;
      if (tally.cases.length >= CASES_MAX) return;
      const text = detail().slice(0, CASE_CHARS_MAX);
      tally.cases.push(text);
      onViolation(`${guarantee}: ${text}`);
    },
    tally: of,
    get violations() {
      return violations;
    },
  };
}
