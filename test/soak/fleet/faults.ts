// Injects one fault every fifteen seconds, in an order that the seed decides: each kind once before any repeats.
// Meanwhile the distance of Firestore changes.
import { setTimeout as sleep } from 'node:timers/promises';
import type { Random } from '../../support/random.ts';
import type { ProviderFault } from '../journal/prompts.ts';
import type { Fleet } from './fleet.ts';

const EVERY_MS = 15_000;
/** The round trip between the gateways and Firestore changes this often, up to this. */
const DELAY_EVERY_MS = 2_000;
const DELAY_MS_MAX = 40;
/** How long recovery takes after a fault: an open breaker, a watch that reconnects, a process that warms up. */
const RECOVERY_MS = 8_000;
/** An instance's clock is wrong by this much. */
const SKEW_MS = 30_000;
/** A larger error: longer than any lease, claim or window of a minute. */
const LARGE_SKEW_MS = 8 * 3_600_000;
/** The first instance is never restarted, so that its memory covers the whole run. */
const RESTARTABLE = [1, 2] as const;
/** A command that lost its sandbox ends within 40 s. */
const SANDBOX_RECOVERY_MS = 40_000;
/** A connection that loses everything this long is over; after less it is resumed. */
const SANDBOX_OVER_MS = 40_000;
const SANDBOX_FAULTS: ReadonlySet<string> = new Set(['sandbox kill -9', 'sandbox black hole']);
/** Faults that take the store or an instance away: only these make a 503 the expected response. */
const OUTAGES: ReadonlySet<string> = new Set([
  'SIGTERM',
  'Firestore frozen',
  'network black hole',
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
  /** Resolves at the end of the run, after the last fault was undone. */
  readonly finished: Promise<void>;
  providerFault(): ProviderFault | undefined;
  /** A 503 is expected: the store or an instance is away, or was a moment ago. */
  isOutage(): boolean;
  /** A command may fail: the sandbox service is away, or was while the command ran. */
  isSandboxOutage(): boolean;
}

export interface FaultDeps {
  readonly fleet: Fleet;
  readonly random: Random;
  readonly runMs: number;
  /** Only faults whose name contains this; '' for all. */
  readonly only: string;
  print(text: string): void;
}

type Fault = () => Promise<string>;

export function startFaults({ fleet, random, runMs, only, print }: FaultDeps): Faults {
  const startMs = performance.now();
  const done: DoneFault[] = [];
  let providerFault: ProviderFault | undefined;
  let outageUntilMs = 0;
  let sandboxUntilMs = 0;

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
    await fleet.suspend(which);
    await sleep(ms);
    fleet.resume(which);
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
  const largeSkew = async (): Promise<string> => {
    const index = await restart('terminate', LARGE_SKEW_MS);
    await sleep(random.int(4_000, 8_000));
    // The clock becomes right in a new process, after a kill in the middle of a turn, or in the running one.
    const isKilled = random.chance(0.5);
    if (isKilled) {
      await fleet.kill(index);
      await fleet.start(index);
    } else {
      fleet.correctClock(index);
    }
    return `${name(index)}, ${isKilled ? 'killed and started again' : 'corrected while it ran'}`;
  };
  const killSandbox = async (): Promise<string> => {
    await fleet.killSandbox();
    await sleep(random.int(0, 3_000));
    await fleet.startSandbox();
    return 'started again';
  };
  const loseSandbox = async (): Promise<string> => {
    const ms = random.chance(0.5) ? SANDBOX_OVER_MS : random.int(2_000, 20_000);
    fleet.loseSandbox(true);
    await sleep(ms);
    fleet.loseSandbox(false);
    return `nothing arrives for ${(ms / 1_000).toFixed(1)} s`;
  };
  const kinds: Readonly<Record<string, Fault>> = {
    'kill -9': async () => `${name(await restart('kill'))}, started again`,
    SIGTERM: async () => `${name(await restart('terminate'))}, started again`,
    'Firestore frozen': outage('firestore'),
    'Pub/Sub frozen': outage('pubsub'),
    'network black hole': async () => {
      const ms = random.int(2_000, 20_000);
      await fleet.blackHole(ms);
      return `nothing arrives from the emulators for ${(ms / 1_000).toFixed(1)} s, nor later on the same connections`;
    },
    'provider 429': provider('429'),
    'provider 500': provider('500'),
    'provider hangs': provider('hang'),
    'provider cuts the stream': provider('cut'),
    'clock 30 s ahead': skew(SKEW_MS),
    'clock 30 s behind': skew(-SKEW_MS),
    'clock 8 h ahead, then back': largeSkew,
    'sandbox kill -9': killSandbox,
    'sandbox black hole': loseSandbox,
  };

  const delays = random.fork();
  const changing = setInterval(() => {
    fleet.delay.roundTripMs = delays.int(0, DELAY_MS_MAX);
  }, DELAY_EVERY_MS);

  async function run(): Promise<void> {
    let pending: string[] = [];
    for (let dueMs = EVERY_MS; dueMs <= runMs - EVERY_MS; dueMs += EVERY_MS) {
      const elapsed = (): number => performance.now() - startMs;
      await sleep(Math.max(0, dueMs - elapsed()));
      if (pending.length === 0) pending = random.shuffle(Object.keys(kinds).filter((name) => name.includes(only)));
      const kind = pending.pop() ?? '';
      const atMs = elapsed();
      print(`${(atMs / 1_000).toFixed(0)} s: ${kind}`);
      if (OUTAGES.has(kind)) outageUntilMs = Number.POSITIVE_INFINITY;
      if (SANDBOX_FAULTS.has(kind)) sandboxUntilMs = Number.POSITIVE_INFINITY;
      const detail = (await kinds[kind]?.()) ?? '';
      if (OUTAGES.has(kind)) outageUntilMs = performance.now() + RECOVERY_MS;
      if (SANDBOX_FAULTS.has(kind)) sandboxUntilMs = performance.now() + SANDBOX_RECOVERY_MS;
      done.push({ atMs, kind, detail, lastedMs: elapsed() - atMs });
    }
    await sleep(Math.max(0, runMs - (performance.now() - startMs)));
    clearInterval(changing);
    fleet.delay.roundTripMs = 0;
  }

  return {
    done,
    finished: run(),
    providerFault: () => providerFault,
    isOutage: () => performance.now() < outageUntilMs,
    isSandboxOutage: () => performance.now() < sandboxUntilMs,
  };
}
