// Lists the guarantees that the soak checks, with a tally of each: how often it was checked, how often it was violated,
// and the first violations.

export const GUARANTEES = {
  admissions: 'No call is admitted above its key’s limit, over all instances',
  degraded: 'Without the store, each instance admits cheap reads up to its small bucket only',
  answers: 'An acknowledged answer is whole, and in its session’s history exactly once',
  fallbacks: 'The model that answered is named, and a fault before the answer leads to that of a fallback',
  usage: 'Usage is what the provider has billed, of each answer and of each session',
  history: 'Histories have no gap, no duplicate, no reordered message and none of another session',
  usable: 'No turn is still running, and every session answers a new prompt',
  streams: 'Events of a turn come without gap, duplicate or change, from any instance',
  ends: 'Exactly one event ends a turn, and it is the last',
  terminal: 'A terminal state, once shown, never changes',
  cancel: 'An acknowledged cancel has ended the turn',
  idempotency: 'An idempotency key completes at most one turn, and always returns the same one',
  dropped: 'No message that was dropped is sent to a provider again, or is in a history',
  forks: 'A fork has the messages of its source, unchanged',
  labels: 'An acknowledged title or metadata is read on every instance',
  deleted: 'A deleted session stays deleted',
  expired: 'An expired session is absent on every read of every instance, and is erased',
  export: 'An export has each acknowledged message once, and nothing of another owner',
  erased: 'After owner.erase nothing of the owner is read or stored but the record of its limits',
  recorded: 'An acknowledged webhook delivery is recorded exactly once',
  published: 'An acknowledged webhook delivery reaches a Pub/Sub subscription, unchanged',
  commands: 'Every command ends within 40 s: with its whole output, or saying whether it may have had an effect',
  recovery: 'After a black hole of the network an instance is well again within 40 s',
  foreign: 'A session of another key gets the same response as one that does not exist',
  errors: 'Every response is JSON, and no 5xx but a retryable 503 during an outage',
  secrets: 'No key, token or prompt in any log',
  crashes: 'No process ends by itself, and each exits with 0 on SIGTERM',
  memory: 'Resident memory is flat: last quarter against the second, at most 20 % more',
} as const;

export type Guarantee = keyof typeof GUARANTEES;

export interface Tally {
  readonly checked: number;
  readonly violations: number;
  /** Descriptions of the first violations. */
  readonly cases: readonly string[];
}

export interface Checks {
  /** `detail` describes the violation; called only for one. */
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
