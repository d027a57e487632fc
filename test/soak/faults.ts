// What goes wrong, one thing every fifteen seconds, in an order that the seed decides: every kind once before any comes
// again.
import { setTimeout as sleep } from 'node:timers/promises';
import type { Fleet } from './fleet.ts';
import type { ProviderFault } from './prompts.ts';
import type { Random } from './random.ts';

const EVERY_MS = 15_000;
/**
 * What a fault leaves behind (a breaker that probes, a watch that reconnects, a process that warms up) may be felt this
 * long.
 */
const AFTERMATH_MS = 8_000;
/** An instance's clock is wrong by this much. */
const SKEW_MS = 30_000;
/** ... or by this much: more than any lease, claim or window of a minute lasts. */
const FAR_MS = 8 * 3_600_000;
/** The first instance is never restarted, so that its memory tells of the whole run. */
const RESTARTABLE = [1, 2] as const;
/**
 * Only these make a 503 the right answer: the store is away, or an instance goes. A model or Pub/Sub that is down does
 * not.
 */
const EXCUSES: ReadonlySet<string> = new Set([
  'SIGTERM',
  'Firestore frozen',
  'clock 30 s ahead',
  'clock 30 s behind',
  'clock 8 h ahead, then back',
]);

export interface DoneFault {
  /** Since the start of the run. */
  readonly atMs: number;
  readonly kind: string;
  readonly detail: string;
  readonly lastedMs: number;
}

export interface Faults {
  readonly done: readonly DoneFault[];
  /** Resolves at the end of the run with everything whole again. */
  readonly finished: Promise<void>;
  providerFault(): ProviderFault | undefined;
  /** A 503 is in order: something that answers need is broken, or was a moment ago. */
  isDisturbed(): boolean;
}

export interface FaultParts {
  readonly fleet: Fleet;
  readonly random: Random;
  readonly runMs: number;
  /** Only faults whose name contains this; '' for all. */
  readonly only: string;
  say(text: string): void;
}

type Fault = () => Promise<string>;

export function startFaults({ fleet, random, runMs, only, say }: FaultParts): Faults {
  const startMs = performance.now();
  const done: DoneFault[] = [];
  let providerFault: ProviderFault | undefined;
  let disturbedUntilMs = 0;

  const restart = async (how: 'kill' | 'terminate', skewMs = 0): Promise<number> => {
    const index = random.pick(RESTARTABLE);
    await fleet[how](index);
    await sleep(random.int(0, 3_000));
    await fleet.start(index, skewMs);
    return index;
  };
  const name = (index: number): string => `instance ${fleet.instances[index]?.name}`;
  const outage = (which: 'firestore' | 'pubsub') => async (): Promise<string> => {
    const ms = random.int(2_000, 10_000);
    await fleet.freeze(which);
    await sleep(ms);
    fleet.thaw(which);
    return `does not answer for ${(ms / 1_000).toFixed(1)} s (SIGSTOP, SIGCONT)`;
  };
  const provider = (kind: ProviderFault) => async (): Promise<string> => {
    providerFault = kind;
    await sleep(10_000);
    providerFault = undefined;
    return '60 % of its calls, for 10 s';
  };
  const skew = (skewMs: number) => async (): Promise<string> => {
    const index = await restart('terminate', skewMs);
    await sleep(random.int(5_000, 8_000));
    await fleet.terminate(index);
    await fleet.start(index);
    return name(index);
  };
  const farAhead = async (): Promise<string> => {
    const index = await restart('terminate', FAR_MS);
    await sleep(random.int(4_000, 8_000));
    // Right again in a new process, after the old one was killed in mid-turn; or while it runs.
    const isKilled = random.chance(0.5);
    if (isKilled) {
      await fleet.kill(index);
      await fleet.start(index);
    } else {
      fleet.correctClock(index);
    }
    return `${name(index)}, ${isKilled ? 'killed and started again' : 'set right while it ran'}`;
  };
  const kinds: Readonly<Record<string, Fault>> = {
    'kill -9': async () => `${name(await restart('kill'))}, started again`,
    SIGTERM: async () => `${name(await restart('terminate'))}, started again`,
    'Firestore frozen': outage('firestore'),
    'Pub/Sub frozen': outage('pubsub'),
    'provider 429': provider('429'),
    'provider 500': provider('500'),
    'provider hangs': provider('hang'),
    'provider cuts': provider('cut'),
    'clock 30 s ahead': skew(SKEW_MS),
    'clock 30 s behind': skew(-SKEW_MS),
    'clock 8 h ahead, then back': farAhead,
  };

  async function run(): Promise<void> {
    let bag: string[] = [];
    for (let dueMs = EVERY_MS; dueMs <= runMs - EVERY_MS; dueMs += EVERY_MS) {
      const elapsed = (): number => performance.now() - startMs;
      await sleep(Math.max(0, dueMs - elapsed()));
      if (bag.length === 0) bag = random.shuffle(Object.keys(kinds).filter((name) => name.includes(only)));
      const kind = bag.pop() ?? '';
      const atMs = elapsed();
      say(`${(atMs / 1_000).toFixed(0)} s: ${kind}`);
      if (EXCUSES.has(kind)) disturbedUntilMs = Number.POSITIVE_INFINITY;
      const detail = (await kinds[kind]?.()) ?? '';
      if (EXCUSES.has(kind)) disturbedUntilMs = performance.now() + AFTERMATH_MS;
      done.push({ atMs, kind, detail, lastedMs: elapsed() - atMs });
    }
    await sleep(Math.max(0, runMs - (performance.now() - startMs)));
  }

  return {
    done,
    finished: run(),
    providerFault: () => providerFault,
    isDisturbed: () => performance.now() < disturbedUntilMs,
  };
}
