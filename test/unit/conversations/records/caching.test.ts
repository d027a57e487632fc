// A conversation that is longer than the budget of its model is trimmed in steps, so that many requests begin with the
// same message and the provider's prompt cache serves them.
import { afterEach, beforeEach, expect, it } from 'vitest';
import { Conversations } from '../../../../shared/conversations/records/documents.ts';
import { createFixture, type Fixture, type Instance } from '../../../support/fixtures/turns/conversations.ts';
import { sentMessages } from '../../../support/fixtures/turns/histories.ts';

const MODEL = 'anthropic/small';
/** Minus a quarter for the answer. */
const WINDOW_TOKENS = 8_192;
const BUDGET_TOKENS = 6_144;
const TURNS = 60;

let fixture: Fixture;
let instances: readonly Instance[];
beforeEach(async () => {
  fixture = await createFixture({
    env: { MODEL, MODELS: JSON.stringify({ [MODEL]: { context_tokens: WINDOW_TOKENS } }) },
  });
  instances = [await fixture.instance(), await fixture.instance()];
});
afterEach(() => fixture.close());

/**
 * Runs turns on both instances and returns at which of them the first message changed, and the tokens that were sent.
 */
async function converse(turns: number): Promise<{ readonly changes: number[]; readonly tokens: number[] }> {
  const changes: number[] = [];
  const tokens: number[] = [];
  let before: readonly string[] = [];
  for (let turn = 0; turn < turns; turn++) {
    const prompt = `${turn} ${'word '.repeat(40 + ((turn * 37) % 90))}`;
    await instances[turn % 2]?.prompt(prompt);
    const sent = sentMessages(fixture);
    if (sent.slice(0, before.length).join() !== before.join()) changes.push(turn);
    tokens.push(sent.join().length / 3);
    before = sent;
  }
  return { changes, tokens };
}

it('each request begins with the one before, but for one in several turns', async () => {
  const { changes, tokens } = await converse(TURNS);
  expect(changes.length).toBeGreaterThan(2);
  const gaps = changes.slice(1).map((turn, index) => turn - (changes[index] ?? 0));
  expect(Math.min(...gaps)).toBeGreaterThanOrEqual(4);
  // At least three quarters of the budget are used, less one message.
  const used = tokens.slice((changes[0] ?? 0) + 1);
  expect(Math.min(...used)).toBeGreaterThan((BUDGET_TOKENS * 3) / 4 - 800);
});

it('each request begins with the one before also in a conversation of a version that counted no tokens', async () => {
  await converse(40);
  const found = await instances[0]?.services.conversations.find('default', 's');
  const ref = found?.ref;
  const { message_tokens: _, ...older } = found?.conversation ?? {};
  if (ref !== undefined) await fixture.store.commit([{ ref, data: older }]);
  expect(Conversations.read((await fixture.store.get(ref === undefined ? [] : [ref]))[0])).not.toHaveProperty(
    'message_tokens',
  );
  const { changes } = await converse(30);
  expect(changes.length).toBeLessThan(9);
});
