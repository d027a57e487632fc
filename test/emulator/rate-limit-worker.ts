// One gateway instance as far as limits go, in a process of its own: a limiter over its own Firestore connection,
// driven over IPC.
import { createDocumentLimiter } from '../../shared/rate-limit/document-limiter.ts';
import { createFirestoreStore } from '../../shared/store/firestore/firestore.ts';
import { countOperations } from '../support/fixtures/rate-limit.ts';
import type { Job, Report, Setup } from './rate-limit-processes.ts';

const { projectId, skewMs, patient }: Setup = JSON.parse(process.argv[2] ?? '{}');
const clock = { now: () => Date.now() + skewMs, monotonic: () => performance.now() };
const store = countOperations(
  createFirestoreStore({ projectId, emulatorHost: process.env.FIRESTORE_EMULATOR_HOST, clock }),
);
const limiter = createDocumentLimiter({
  store,
  clock,
  ...(patient === true ? { timeoutMs: 10_000, lockTimeoutMs: 30_000 } : {}),
});

process.on('message', (job: Job) => {
  run(job).then(
    (report) => process.send?.(report),
    (error) => process.send?.({ failure: String(error) }),
  );
});
process.on('disconnect', () => process.exit());

// The first call on a connection pays for the connection; no test here is about that.
await store.ping({ timeoutMs: 30_000 });
process.send?.({ ready: true });

async function run({ keyId, limits, calls, spreadMs, sequential, mayDegrade, keys }: Job): Promise<Report> {
  store.reset();
  const outcomes: Record<string, number> = {};
  const latenciesMs: number[] = [];
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
        // Arrivals spread evenly over the time asked for; processes are out of step by their start alone.
        if (spreadMs !== undefined) await new Promise((resolve) => setTimeout(resolve, (index * spreadMs) / calls));
        await call();
      }),
    );
  return {
    outcomes,
    latenciesMs,
    operations: store.total(),
    lost: store.operations.lost,
    locks: store.operations.locks,
  };
}
