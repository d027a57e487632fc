// What of a conversation reaches Codex: no blank text, and less of it once the model finds it too long.

import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Toolset } from '../../../shared/engines/engine.ts';
import type { EngineEvent } from '../../../shared/turn-events.ts';
import {
  byPrompt,
  describeCodex,
  type Fixture,
  setUpFixture,
  startConversation,
  textsIn,
} from '../../support/fixtures/codex.ts';

describeCodex('the context of a codex turn', (place) => {
  let fixture: Fixture;
  let engine: ReturnType<Fixture['machine']>;
  beforeAll(async () => {
    fixture = await setUpFixture(place);
    engine = fixture.machine();
  });
  afterAll(() => fixture.close());

  it('the context of a codex turn has no blank message, instructions or result of a tool', async () => {
    const conversation = startConversation();
    conversation.messages.push(
      { role: 'user', content: 'hello' },
      { role: 'assistant', content: ' \n' },
      { role: 'user', content: '\t' },
      { role: 'assistant', content: 'hi' },
    );
    const tools: Toolset = {
      chars: 10,
      tools: [{ name: 'tests__echo', server: 'tests', tool: 'echo', inputSchema: { type: 'object' } }],
      call: async () => ({ content: '\n', isError: false }),
    };
    const { outcome } = await conversation.prompt(engine, 'tool {}', { instructions: ' ', tools });
    expect(outcome.content).toBe('(no output)');
    expect(textsIn(fixture.api.requests.at(-1))).toEqual(['hello', 'hi', 'tool {}']);
    expect(fixture.api.requests.at(-1)?.input.filter(({ text }) => text.trim() === '' && text !== '')).toEqual([]);
  });

  it('loses its oldest messages in a new thread until the model accepts it, and continues there', async () => {
    const conversation = startConversation();
    for (let turn = 0; turn < 5; turn++) {
      conversation.messages.push(
        { role: 'user', content: `question ${turn} ${'word '.repeat(400)}` },
        { role: 'assistant', content: `answer ${turn}` },
      );
    }
    const message = 'Your input exceeds the context window of this model. Please adjust your input and try again.';
    fixture.api.behave((request) =>
      textsIn(request).join('').length > 5_000 ? { status: 400, message } : byPrompt(request),
    );
    const { events, outcome } = await conversation.prompt(engine, 'and now?');
    expect(outcome.content).toBe('You said: and now?');
    const trims = trimsOf(events);
    expect(trims.length).toBeGreaterThan(0);
    expect(trims.at(-1)?.trimmed).toBeGreaterThan(4);
    const from = fixture.api.requests.length;
    await conversation.prompt(engine, 'and then?');
    expect(fixture.api.requests.length - from).toBe(1);
    expect(textsIn(fixture.api.requests.at(-1)).slice(-3)).toEqual(['and now?', 'You said: and now?', 'and then?']);
  });

  it('ends with an error that names the cause when the prompt alone is too long; the session continues', async () => {
    const conversation = startConversation();
    fixture.api.behave((request) =>
      request.prompt.length > 1_000
        ? { status: 400, message: 'prompt is too long: 9 tokens > 8000 maximum' }
        : { text: 'ok' },
    );
    const error = await conversation.fail(engine, 'long '.repeat(400));
    expect(error).toMatchObject({ retryable: false, data: { detail: 'context_overflow', limit_tokens: 8_000 } });
    conversation.messages.pop();
    expect((await conversation.prompt(engine, 'short')).outcome.content).toBe('ok');
  });

  it('the context of a codex turn is not repeated once the turn has run a command: the turn ends with an error that names the cause', async () => {
    const message = 'Your input exceeds the context window of this model. Please adjust your input and try again.';
    fixture.api.behave((request) =>
      request.toolOutput === undefined ? { call: 'exec_command', args: { cmd: 'true' } } : { status: 400, message },
    );
    const conversation = startConversation();
    conversation.messages.push({ role: 'user', content: 'hello' }, { role: 'assistant', content: 'hi' });
    const from = fixture.api.requests.length;
    const error = await conversation.fail(engine, 'look around');
    expect(error).toMatchObject({ retryable: false, data: { detail: 'context_overflow' } });
    expect(error.message).toMatch(/^The context of the model was full before its answer was complete \(OpenAI: Your/);
    expect(fixture.api.requests.length - from).toBe(2);
  });
});

function trimsOf(events: readonly EngineEvent[]) {
  return events.flatMap((event) => ('ContextTrimmed' in event ? [event.ContextTrimmed] : []));
}
