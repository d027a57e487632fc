// Gateway instances as far as limits go, in a process of their own: limiters, each over its own Firestore connection,
// driven over IPC.
import { createDocumentLimiter } from '../../shared/rate-limit/document-limiter.ts';
import type { Limiter } from '../../shared/rate-limit/limiter.ts';
import { createFirestoreStore } from '../../shared/store/firestore/firestore.ts';
import { type Counted, countOperations } from '../support/fixtures/rate-limit.ts';
import type { Job, Report, Setup } from './rate-limit-processes.ts';

interface Instance {
  readonly limiter: Limiter;
  readonly store: Counted;
}

const { projectId }: Setup = JSON.parse(process.argv[2] ?? '{}');
const started = new Map<string, Promise<Instance>>();

process.on('message', (job: Job) => {
  run(job).then(
    (report) => process.send?.(report),
    (error) => process.send?.({ failure: String(error) }),
  );
});
process.on('disconnect', () => process.exit());

await instancesOf({});
process.send?.({ ready: true });

/** The instances that a job needs; those of an earlier job are used again. */
function instancesOf({ instances = 1, skewMs = 0, patient = false }: Partial<Job>): Promise<Instance[]> {
  return Promise.all(
    Array.from({ length: instances }, (_, index) => {
      const name = `${skewMs} ${patient} ${index}`;
      const instance = started.get(name) ?? startInstance(skewMs, patient);
      started.set(name, instance);
      return instance;
    }),
  );
}

async function startInstance(skewMs: number, patient: boolean): Promise<Instance> {
  const clock = { now: () => Date.now() + skewMs, monotonic: () => performance.now() };
  const emulatorHost = process.env.FIRESTORE_EMULATOR_HOST;
  const store = countOperations(createFirestoreStore({ projectId, emulatorHost, clock }));
  const bounds = patient ? { timeoutMs: 10_000, lockTimeoutMs: 30_000 } : {};
  // The first call on a connection pays for the connection; no test here is about that.
  await store.ping({ timeoutMs: 30_000 });
  return { limiter: createDocumentLimiter({ store, clock, ...bounds }), store };
}

async function run(job: Job): Promise<Report> {
  const instances = await instancesOf(job);
  for (const { store } of instances) store.reset();
  const outcomes: Record<string, number> = {};
  const latenciesMs: number[] = [];
  await Promise.all(instances.map(({ limiter }) => runOn(limiter, job, outcomes, latenciesMs)));
  const sum = (of: (store: Counted) => number): number => instances.reduce((total, { store }) => total + of(store), 0);
  return {
    outcomes,
    latenciesMs,
    operations: sum((store) => store.total()),
    lost: sum((store) => store.operations.lost),
    locks: sum((store) => store.operations.locks),
  };
}

async function runOn(
  limiter: Limiter,
  { keyId, limits, calls, spreadMs, sequential, mayDegrade, keys }: Job,
  outcomes: Record<string, number>,
  latenciesMs: number[],
): Promise<void> {
  async function call(): Promise<void> {
    const startMs = performance.now();
    const id = keys === undefined ? keyId : `${keyId}-${Math.floor(Math.random() * keys)}`;
    const decision = await limiter.take({ keyId: id, limits, cost: 1, mayDegrade: mayDegrade ?? false });
    latenciesMs.push(performance.now() - startMs);
    const outcome = decision.degraded ? 'degraded' : decision.outcome;
    outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
  }
  if (sequential === true) for (let index = 0; index < calls; index++) await call();
  else
    await Promise.all(
      Array.from({ length: calls }, async (_, index) => {
        // Arrivals are spread evenly over `spreadMs`; the start of each process alone shifts them.
        if (spreadMs !== undefined) await new Promise((resolve) => setTimeout(resolve, (index * spreadMs) / calls));
        await call();
      }),
    );
}
