// Measures turns across two real gateways on the Firestore emulator, with every setting at its default: the time from a
// cancel on the other instance until the socket to the model is closed, and from the kill of an owner until its session
// is usable.
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { startModelProvider } from '../../support/fakes/model-provider/model-provider.ts';
import { follow, rpc } from '../../support/fixtures/clients/turn-client.ts';
import { startFirestoreEmulator } from '../../support/fixtures/database/emulators.ts';
import { startLocalGateway } from '../../support/fixtures/gateway/local-gateway.ts';
import { type BenchLine, median, printLines } from '../support/bench.ts';

const CANCELS = 40;
const HEARTBEAT_MS = 10_000;

export async function run(): Promise<BenchLine[]> {
  const emulator = await startFirestoreEmulator();
  const provider = await startModelProvider();
  const project = `bench-${randomBytes(4).toString('hex')}`;
  const env = {
    FIRESTORE_EMULATOR_HOST: emulator.host,
    GOOGLE_CLOUD_PROJECT: project,
    METADATA_SERVER_DETECTION: 'none',
    GATEWAY_API_KEY: 'dev-key',
    GATEWAY_BUS: 'local',
    GATEWAY_LIMITS: '1000000/minute',
    ANTHROPIC_API_KEY: 'sk-bench',
    ANTHROPIC_BASE_URL: provider.url,
    MODEL: 'anthropic/claude-sonnet-4-5',
  };
  const owner = await startLocalGateway({ env });
  const other = await startLocalGateway({ env });
  try {
    for (const { url } of [owner, other]) await rpc(url, 'conversation.prompt', { prompt: '[[chunks 5 every 50]]' });
    const latenciesMs: number[] = [];
    for (let round = 0; round < CANCELS; round++) {
      const session_id = `cancel-${round}`;
      const request = provider.next();
      const running = follow(owner.url, 'conversation.prompt', { prompt: '[[chunks 500 every 20]]', session_id });
      await running.until(12);
      const sentAt = Date.now();
      await rpc(other.url, 'conversation.cancel', { session_id });
      latenciesMs.push((await (await request).done).at - sentAt);
      await running.answer;
    }
    latenciesMs.sort((a, b) => a - b);
    const p95Ms = latenciesMs[Math.ceil(CANCELS * 0.95) - 1] ?? Number.NaN;

    const session_id = 'killed';
    const running = follow(owner.url, 'conversation.prompt', { prompt: '[[chunks 5000 every 20]]', session_id });
    await running.until(50);
    const killed = once(owner.child, 'exit');
    owner.child.kill('SIGKILL');
    await killed;
    const startMs = performance.now();
    // Measured to the first event of the next turn, without the time of the model.
    const next = follow(other.url, 'conversation.prompt', { prompt: 'go on', session_id, on_busy: 'queue' });
    await next.until(1);
    const usableS = (performance.now() - startMs) / 1_000;
    const isStarted = 'TaskStarted' in (next.events[0]?.event ?? {});
    next.abort();
    return [
      {
        name: 'cancel on another instance until the model’s socket is closed, p95',
        value: p95Ms,
        unit: 'ms',
        baseline: HEARTBEAT_MS,
        baselineName: 'by the heartbeat alone, at most',
        ratio: HEARTBEAT_MS / p95Ms,
        target: '< 250',
        met: p95Ms < 250,
        notes: `p50 ${median(latenciesMs)} ms`,
      },
      {
        name: 'session usable again after kill -9 of its owner, default lease',
        value: usableS,
        unit: 's',
        target: '<= 45',
        met: usableS <= 45 && isStarted,
      },
    ];
  } finally {
    await other.stop();
    await provider.close();
    await emulator.stop();
  }
}

if (process.argv[1] === import.meta.filename) printLines(await run());
