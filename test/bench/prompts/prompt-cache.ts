// Counts what the input of a chat of 30 turns costs with the prompt cache of a provider, in tokens at the usual price.
// A fake provider bills each request as Anthropic does; nothing is timed.
import { billChat } from '../../support/fixtures/turns/billed-chat.ts';
import type { BenchLine } from '../support/bench.ts';

const TURNS = 30;
const PRICE_MAX = 0.4;

export async function run(): Promise<BenchLine[]> {
  const { billed, whole } = await billChat(TURNS);
  return [
    {
      name: `billed input of a chat of ${TURNS} turns with the prompt cache`,
      value: billed,
      unit: 'tokens',
      baseline: whole,
      baselineName: 'without',
      ratio: whole / billed,
      target: `<= ${PRICE_MAX}x`,
      met: billed <= whole * PRICE_MAX,
    },
  ];
}
