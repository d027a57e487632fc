// Text that providers refuse is never sent, wherever it comes from: white space only (the fake provider refuses it as
// Anthropic does, in every role), and half of a surrogate pair.
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Message, Toolset } from '../../../../../shared/engines/engine.ts';
import { isBlank } from '../../../../../shared/messages/text.ts';
import { type ModelProvider, startModelProvider } from '../../../../support/fakes/model-provider/model-provider.ts';
import { CASES, createTestEngine, runTurn } from '../../../../support/fixtures/turns/engines.ts';

let provider: ModelProvider;
beforeAll(async () => {
  provider = await startModelProvider();
});
afterEach(() => provider.behave());
afterAll(() => provider.close());

const SPACES = [' ', '\n\n', '\t \r\n', '\u00a0\u3000', '\ufeff', '\u2028', '\u200b', '\u0085\u001c'];

it.each(SPACES)('the text %j is blank', (text) => expect(isBlank(text)).toBe(true));
it.each(['.', ' a ', '\n0\n', '👍', 'ー'])('the text %j is not blank', (text) => expect(isBlank(text)).toBe(false));

describe.each(CASES)('$provider', ({ model }) => {
  it.each(SPACES)('a provider is not sent %j as a message of either role, nor as instructions', async (blank) => {
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

  it('a provider is not sent the blank text before a tool call, nor a blank result of the tool', async () => {
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

/** A half of a pair, as an escape in the text of a request. */
const HALF = /\\ud[89a-f]/i;

describe.each(CASES)('$provider and half of a surrogate pair', ({ model }) => {
  it('half surrogates are joined where a pair is cut between two pieces, and replaced where one stays alone', async () => {
    provider.behave(() => ({ chunks: ['a \ud83d', '\ude00 b \ud83d', ' c', ' d \ud83d'] }));
    const { outcome, events } = await runTurn(createTestEngine(provider), { model });
    expect(outcome.content).toBe('a \u{1f600} b \ufffd c d ');
    const deltas = events.flatMap((event) => ('AgentMessageDelta' in event ? [event.AgentMessageDelta.delta] : []));
    expect(deltas.join('')).toBe(outcome.content);
    expect(deltas.every((delta) => delta.isWellFormed())).toBe(true);
  });

  it('half surrogates that are stored in the history are not sent', async () => {
    const sent: string[] = [];
    provider.behave(({ body }) => {
      sent.push(JSON.stringify(body));
      return { text: 'ok' };
    });
    const messages: Message[] = [
      { role: 'user', content: 'hello' },
      { role: 'assistant', content: 'cut \ud83d' },
      { role: 'user', content: 'go on' },
    ];
    await runTurn(createTestEngine(provider), { model, messages });
    expect(sent).toHaveLength(1);
    expect(sent[0]).not.toMatch(HALF);
  });

  it('half surrogates that the model has put into a tool call are not sent, nor to the tool', async () => {
    const sent: string[] = [];
    provider.behave(({ body, toolResults }) => {
      sent.push(JSON.stringify(body));
      const args = { 'k\ud83d': ['v\ud83d'], deep: { ok: '\u{1f600}' } };
      return toolResults.length === 0 ? { toolCall: { name: 'quiet', arguments: args }, text: '' } : { text: 'done' };
    });
    const receivedArgs: unknown[] = [];
    const quiet = createQuietTool(false);
    const tools: Toolset = {
      ...quiet,
      call(tool, args, signal) {
        receivedArgs.push(args);
        return quiet.call(tool, args, signal);
      },
    };
    await runTurn(createTestEngine(provider), { model, tools });
    expect(receivedArgs).toEqual([{ 'k\ufffd': ['v\ufffd'], deep: { ok: '\u{1f600}' } }]);
    expect(sent[1]).not.toMatch(HALF);
  });

  it('a history is sent without the answers before its first message of the user', async () => {
    const messages: Message[] = [
      { role: 'user', content: ' ' },
      { role: 'assistant', content: 'ANSWER' },
      { role: 'user', content: 'hello' },
    ];
    provider.behave(({ body }) => ({ text: JSON.stringify(body).includes('ANSWER') ? 'it was sent' : 'ok' }));
    const { outcome } = await runTurn(createTestEngine(provider), { model, messages });
    expect(outcome.content).toBe('ok');
  });
});

function createQuietTool(isError: boolean): Toolset {
  const tool = { name: 'quiet', server: 's', tool: 'quiet', inputSchema: { type: 'object' } };
  return { chars: 10, tools: [tool], call: async () => ({ content: ' \n', isError }) };
}
