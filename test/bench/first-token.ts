// The first streamed piece of an answer through the gateway, against the same piece straight from the model.
import { type BenchLine, median, printLines } from './bench.ts';
import { direct, load, prompt, startPromptSetup } from './prompt-client.ts';

const ROUNDS = 3;
const CALLS = 200;
const TURNS = 5;
/** The model begins at once and goes on for a while, so that the first piece is not the last. */
const PROMPT = '[[chunks 4 every 5]]';

export async function run(): Promise<BenchLine[]> {
  const { gateway, provider, stop } = await startPromptSetup();
  try {
    const behind: number[] = [];
    const model: number[] = [];
    for (let round = 0; round <= ROUNDS; round++) {
      const through = await load(CALLS, 1, async (index) => {
        const params = { prompt: PROMPT, session_id: `r${round}-${Math.floor(index / TURNS)}` };
        const { firstMs } = await prompt(gateway.url, params, { accept: 'text/event-stream' }, isDelta);
        return firstMs;
      });
      const straight = await load(CALLS, 1, async () => (await direct(provider.url, PROMPT, isModelDelta)).firstMs);
      // The first round warms both up.
      if (round === 0) continue;
      behind.push(median(through.ms) - median(straight.ms));
      model.push(median(straight.ms));
    }
    const behindMs = median(behind);
    return [
      {
        name: 'first streamed token, embedded, p50 behind the model’s',
        value: behindMs,
        unit: 'ms',
        baseline: median(model),
        baselineName: 'the model itself',
        target: '<= 3',
        met: behindMs <= 3,
      },
    ];
  } finally {
    await stop();
  }
}

function isDelta(text: string): boolean {
  return text.includes('AgentMessageDelta');
}

function isModelDelta(text: string): boolean {
  return text.includes('content_block_delta');
}

if (import.meta.main) printLines(await run());
