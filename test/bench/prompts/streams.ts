// Measures how many slow streams a core can serve: the processor time of the companion and of the function for a
// streamed piece, from the built bundles, with Firestore's emulator and a model behind a real socket.
import { randomBytes } from 'node:crypto';
import { startFirestoreEmulator } from '../../support/fixtures/database/emulators.ts';
import { createDeployed } from '../../support/fixtures/gateway/deployed.ts';
import { type BenchLine, median, printLines } from '../support/bench.ts';
import { HEADERS, KEY } from '../support/deployed.ts';
import { startServer } from '../support/processes.ts';
import { MEASURED, processorUs } from '../support/processor-time.ts';
import { MODEL, post } from '../support/prompt-client.ts';

const ROUNDS = Number(process.env.BENCH_ROUNDS ?? 5);
const STREAMS = Number(process.env.BENCH_STREAMS ?? 60);
const SECONDS = 10;
/** Of one stream, as a chat of a fast model. */
const PIECES_PER_SECOND = 20;
const PIECES = SECONDS * PIECES_PER_SECOND;
const PROMPT = `[[chunks ${PIECES} every ${1_000 / PIECES_PER_SECOND}]]`;
const STREAM_HEADERS = { ...HEADERS, accept: 'text/event-stream' };
/** Streams that an instance of one core carries, with a core to spare for each other one. */
const COMPANION_MIN = 200;
const FUNCTION_MIN = 500;

export async function run(): Promise<BenchLine[]> {
  const emulator = await startFirestoreEmulator();
  const provider = await startServer(
    ['test/support/fakes/model-provider/model-provider-main.ts'],
    /model provider ready at (\S+)/,
    {},
    'any',
  );
  const deployed = await createDeployed({
    FIRESTORE_EMULATOR_HOST: emulator.host,
    GOOGLE_CLOUD_PROJECT: `bench-${randomBytes(4).toString('hex')}`,
    METADATA_SERVER_DETECTION: 'none',
    GATEWAY_BUS: 'local',
    GATEWAY_API_KEY: KEY,
    GATEWAY_LIMITS: '1000000/minute',
    ANTHROPIC_API_KEY: 'sk-bench',
    ANTHROPIC_BASE_URL: provider.url,
    MODEL,
    ...MEASURED,
  });
  try {
    const { fn, companion } = await deployed.start();
    const rounds: { companion: number; function: number; bytes: number }[] = [];
    for (let round = 0; round <= ROUNDS; round++) {
      const before = [await processorUs(companion.child), await processorUs(fn.child)] as const;
      const bytes = await stream(`${fn.url}/jsonrpc`, round);
      const pieces = STREAMS * PIECES;
      const measured = {
        companion: ((await processorUs(companion.child)) - before[0]) / pieces,
        function: ((await processorUs(fn.child)) - before[1]) / pieces,
        bytes: bytes / pieces,
      };
      // The first round warms everything up.
      if (round > 0) rounds.push(measured);
    }
    const bytes = median(rounds.map((round) => round.bytes));
    return [
      toLine('companion', median(rounds.map((round) => round.companion)), COMPANION_MIN, 'turns included'),
      toLine(
        'function',
        median(rounds.map((round) => round.function)),
        FUNCTION_MIN,
        `${bytes.toFixed(0)} bytes a piece`,
      ),
    ];
  } finally {
    await deployed.close();
    await provider.stop();
    await emulator.stop();
  }
}

/** Bytes of all answers. Each stream has a session of its own. */
async function stream(url: string, round: number): Promise<number> {
  const answers = await Promise.all(
    Array.from({ length: STREAMS }, (_, index) => {
      const params = { prompt: PROMPT, session_id: `${round}-${index}` };
      const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'conversation.prompt', params });
      return post(url, body, STREAM_HEADERS);
    }),
  );
  const failed = answers.find(({ body }) => !body.includes('"result"'));
  if (failed !== undefined) throw new Error(`a stream failed: ${failed.body.slice(-500)}`);
  return answers.reduce((sum, { body }) => sum + Buffer.byteLength(body), 0);
}

function toLine(what: string, us: number, min: number, notes: string): BenchLine {
  const value = 1e6 / (us * PIECES_PER_SECOND);
  return {
    name: `streams of ${PIECES_PER_SECOND} pieces a second that a core of the ${what} carries`,
    value,
    unit: 'streams',
    target: `>= ${min}`,
    met: value >= min,
    notes: `${us.toFixed(0)} us a piece, of ${STREAMS} streams at a time; ${notes}`,
  };
}

if (process.argv[1] === import.meta.filename) printLines(await run());
