// Text that is only white space, wherever it comes from, is never sent: the fake provider refuses it as Anthropic does,
// in every role.
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Message, Toolset } from '../../../shared/engines/engine.ts';
import { isBlank } from '../../../shared/text.ts';
import { type ModelProvider, startModelProvider } from '../../support/fakes/model-provider.ts';
import { CASES, createTestEngine, runTurn } from '../../support/fixtures/engines.ts';

let provider: ModelProvider;
beforeAll(async () => {
  provider = await startModelProvider();
});
afterEach(() => provider.behave());
afterAll(() => provider.close());

const SPACES = [' ', '\n\n', '\t \r\n', '\u00a0\u3000', '\ufeff', '\u2028', '\u200b', '\u0085\u001c'];

it.each(SPACES)('%j is blank', (text) => expect(isBlank(text)).toBe(true));
it.each(['.', ' a ', '\n0\n', '👍', 'ー'])('%j is not blank', (text) => expect(isBlank(text)).toBe(false));

describe.each(CASES)('$provider', ({ model }) => {
  it.each(SPACES)('is not sent %j as a message of either role, nor as instructions', async (blank) => {
    const messages: Message[] = [
      { role: 'user', content: blank },
      { role: 'user', content: 'hello' },
      { role: 'assistant', content: blank },
      { role: 'user', content: 'still there?' },
    ];
    const engine = createTestEngine(provider);
    const { outcome } = await runTurn(engine, { model, messages, instructions: blank });
    expect(outcome.content).toMatch(/still there\?$/);
  });

  it('is not sent the blank text before a tool call, nor a blank result of the tool', async () => {
    provider.behave(({ toolResults }) =>
      toolResults.length === 0
        ? { text: '\n\n', toolCall: { name: 'quiet', arguments: {} } }
        : { text: `The tool said: ${toolResults[0]}` },
    );
    for (const isError of [false, true]) {
      const { outcome } = await runTurn(createTestEngine(provider), { model, tools: createQuietTool(isError) });
      expect(outcome.content).toContain('(no output)');
    }
  });
});

function createQuietTool(isError: boolean): Toolset {
  const tool = { name: 'quiet', server: 's', tool: 'quiet', inputSchema: { type: 'object' } };
  return { chars: 10, tools: [tool], call: async () => ({ content: ' \n', isError }) };
}
