// Measures the cost of many keys: conversation.status on a gateway with 1,000 keys, each call with another one, against
// a gateway with a single key.
import { createHash } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type BenchLine, median, printLines } from '../support/bench.ts';
import { startServer } from '../support/processes.ts';
import { load, post } from '../support/prompt-client.ts';

const KEYS = 1_000;
const ROUNDS = 3;
const CALLS = 3_000;
const CONCURRENCY = 20;
const BODY = '{"jsonrpc":"2.0","id":1,"method":"conversation.status","params":{"session_id":"none"}}';

export async function run(): Promise<BenchLine[]> {
  const directory = await mkdtemp(join(tmpdir(), 'gateway-bench-'));
  const start = async (count: number) => {
    const file = join(directory, `${count}.json`);
    const keys = Array.from({ length: count }, (_, n) => ({
      id: `key-${n}`,
      sha256: createHash('sha256').update(`secret-${n}`).digest('hex'),
      scopes: ['conversation'],
    }));
    await writeFile(file, JSON.stringify({ keys }));
    return startServer(['functions/local/main.ts'], /gateway ready at (\S+)/, {
      PORT: '0',
      GATEWAY_DATA_DIR: join(directory, String(count)),
      GATEWAY_KEYS: `@${file}`,
      GATEWAY_LIMITS: '1000000000/minute',
      GATEWAY_LOG: 'json',
    });
  };
  const one = await start(1);
  const many = await start(KEYS);
  try {
    const perSecond = async (url: string, count: number): Promise<number> =>
      (
        await load(CALLS, CONCURRENCY, async (n) => {
          const { status, ms } = await post(`${url}/jsonrpc`, BODY, { 'x-api-key': `secret-${n % count}` });
          if (status !== 200) throw new Error(`status ${status}`);
          return ms;
        })
      ).perSecond;
    const rounds: { one: number; many: number }[] = [];
    for (let round = 0; round <= ROUNDS; round++) {
      const measured = { one: await perSecond(one.url, 1), many: await perSecond(many.url, KEYS) };
      // The first round warms both up.
      if (round > 0) rounds.push(measured);
    }
    const value = median(rounds.map((round) => round.many));
    const baseline = median(rounds.map((round) => round.one));
    return [
      {
        name: `conversation.status, ${KEYS} keys, each call with another`,
        value,
        unit: 'calls/s',
        baseline,
        baselineName: 'one key',
        ratio: value / baseline,
        target: '>= 0.5x: a key’s first call reads its windows, and no key is searched for',
        met: value >= 0.5 * baseline,
      },
    ];
  } finally {
    await Promise.all([one.stop(), many.stop()]);
    await rm(directory, { recursive: true, force: true });
  }
}

if (process.argv[1] === import.meta.filename) printLines(await run());
