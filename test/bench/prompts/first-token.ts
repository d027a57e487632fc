// Measures the time to the first streamed delta through the gateway, against the first delta of the model without a
// gateway.
import { type BenchLine, median, printLines } from '../support/bench.ts';
import { callProvider, load, prompt, startPromptSetup } from '../support/prompt-client.ts';

const ROUNDS = 3;
const CALLS = 200;
const TURNS = 5;
/** The model sends its first chunk at once and three more later, so that the first is not the last. */
const PROMPT = '[[chunks 4 every 5]]';

export async function run(): Promise<BenchLine[]> {
  const { gateway, provider, stop } = await startPromptSetup();
  try {
    const added: number[] = [];
    const model: number[] = [];
    for (let round = 0; round <= ROUNDS; round++) {
      const through = await load(CALLS, 1, async (index) => {
        const params = { prompt: PROMPT, session_id: `r${round}-${Math.floor(index / TURNS)}` };
        const { firstMs } = await prompt(gateway.url, params, { accept: 'text/event-stream' }, isDelta);
        return firstMs;
      });
      const direct = await load(CALLS, 1, async () => (await callProvider(provider.url, PROMPT, isModelDelta)).firstMs);
      // The first round warms both up.
      if (round === 0) continue;
      added.push(median(through.ms) - median(direct.ms));
      model.push(median(direct.ms));
    }
    const addedMs = median(added);
    return [
      {
        name: 'first streamed token, embedded, p50 behind the model’s',
        value: addedMs,
        unit: 'ms',
        baseline: median(model),
        baselineName: 'the model itself',
        target: '<= 3',
        met: addedMs <= 3,
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

if (process.argv[1] === import.meta.filename) printLines(await run());
