// Counts the operations of one prompt on the Firestore emulator: round trips before the request to the model, commits
// after it, documents read and written. A whole gateway runs in this process (keys, limits, session), with a model
// behind a real socket and warm sessions.
import { randomBytes } from 'node:crypto';
import { setImmediate as nextTick } from 'node:timers/promises';
import { systemClock } from '../../../shared/clock.ts';
import { loadConfig } from '../../../shared/config/load-config.ts';
import { createServices } from '../../../shared/create-services.ts';
import { createGateway } from '../../../shared/gateway.ts';
import { createLogger } from '../../../shared/log.ts';
import * as methods from '../../../shared/methods/index.ts';
import { createRegistry } from '../../../shared/rpc/method.ts';
import { createFirestoreStore } from '../../../shared/store/firestore/firestore.ts';
import type { Store } from '../../../shared/store/store.ts';
import { startModelProvider } from '../../support/fakes/model-provider/model-provider.ts';
import { startFirestoreEmulator } from '../../support/fixtures/database/emulators.ts';
import { type BenchLine, median, printLines } from '../support/bench.ts';

const PROMPTS = 60;
const KEY = 'bench-key';

interface Trip {
  readonly kind: 'read' | 'commit';
  readonly documents: number;
  readonly startMs: number;
}

export async function run(): Promise<BenchLine[]> {
  const emulator = await startFirestoreEmulator();
  const provider = await startModelProvider();
  const trips: Trip[] = [];
  const projectId = `bench-${randomBytes(4).toString('hex')}`;
  const store = record(createFirestoreStore({ projectId, emulatorHost: emulator.host, clock: systemClock }), trips);
  const config = loadConfig({
    GATEWAY_API_KEY: KEY,
    GATEWAY_BUS: 'local',
    // No blocks, which would save the write of the limiter.
    GATEWAY_LIMITS: '900/second',
    ANTHROPIC_API_KEY: 'sk-bench',
    ANTHROPIC_BASE_URL: provider.url,
    MODEL: 'anthropic/claude-sonnet-4-5',
  });
  const services = await createServices(config, { store, log: createLogger({ format: 'json', write: () => {} }) });
  const gateway = createGateway(services, createRegistry(Object.values(methods)));
  const sendPrompt = async (session_id: string): Promise<number> => {
    const requested = provider.next().then(() => performance.now());
    const call = { jsonrpc: '2.0', id: 1, method: 'conversation.prompt', params: { prompt: 'hello', session_id } };
    const response = await gateway.handle({
      caller: await gateway.authenticate({ 'x-api-key': KEY }),
      body: Buffer.from(JSON.stringify(call)),
      requestId: 'bench',
      transport: 'http',
      signal: new AbortController().signal,
    });
    if (response.text?.includes('ai_response') !== true) throw new Error(response.text);
    return requested;
  };
  try {
    // The first calls open the connection and may exceed the short deadline of the limiter.
    for (let left = 5; ; left--) {
      try {
        await sendPrompt('warm');
        break;
      } catch (error) {
        if (left === 0) throw error;
      }
    }
    const counted: { before: number; after: number; reads: number; writes: number }[] = [];
    for (let n = 0; n < PROMPTS; n++) {
      // The usage of the last turn is written in a later batch, which does not belong to this turn.
      await services.conversations.ledger.flush();
      await nextTick();
      trips.length = 0;
      const modelRequestMs = await sendPrompt('warm');
      const sum = (kind: Trip['kind']): number =>
        trips.reduce((all, trip) => all + (trip.kind === kind ? trip.documents : 0), 0);
      counted.push({
        before: trips.filter(({ startMs }) => startMs < modelRequestMs).length,
        after: trips.filter(({ startMs }) => startMs >= modelRequestMs).length,
        reads: sum('read'),
        writes: sum('commit'),
      });
    }
    const most = (pick: (count: (typeof counted)[number]) => number): number => Math.max(...counted.map(pick));
    const line = (name: string, value: number, unit: string, max: number, notes = ''): BenchLine => ({
      name: `prompt in a warm session, Firestore: ${name}`,
      value,
      unit,
      target: `<= ${max}`,
      met: value <= max,
      ...(notes !== '' && { notes }),
    });
    return [
      line(
        'round trips before the model',
        most(({ before }) => before),
        'trips',
        1,
        'limiter and admission in one commit',
      ),
      line(
        'commits after it',
        most(({ after }) => after),
        'commits',
        1,
      ),
      line(
        'documents read',
        most(({ reads }) => reads),
        'reads',
        0,
      ),
      line('documents written, median', median(counted.map(({ writes }) => writes)), 'writes', 5),
    ];
  } finally {
    await services.conversations.drain(0);
    await store.close();
    await provider.close();
    await emulator.stop();
  }
}

function record(store: Store, trips: Trip[]): Store {
  return {
    ...store,
    get(refs, options) {
      trips.push({ kind: 'read', documents: refs.length, startMs: performance.now() });
      return store.get(refs, options);
    },
    commit(writes, options) {
      trips.push({ kind: 'commit', documents: writes.length, startMs: performance.now() });
      return store.commit(writes, options);
    },
  };
}

if (process.argv[1] === import.meta.filename) printLines(await run());
