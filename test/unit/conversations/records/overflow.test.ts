// A session that is too long for its model is trimmed until the provider accepts it. Every instance remembers the
// accepted size, and the session stays usable.
import { randomBytes } from 'node:crypto';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { createFixture, type Fixture, failure, type Instance } from '../../../support/fixtures/turns/conversations.ts';

let fixture: Fixture;
let a: Instance;
beforeEach(async () => {
  fixture = await createFixture();
  a = await fixture.instance();
});
afterEach(() => fixture.close());

/** A provider that counts a token for so many characters of the request and refuses what is more than its window. */
function limitTo(windowTokens: number, charsPerToken: number): void {
  fixture.provider.behave((request) => {
    const tokens = Math.round(JSON.stringify(request.body).length / charsPerToken);
    if (tokens <= windowTokens) return { text: `read ${request.messages} messages` };
    return { status: 400, message: `prompt is too long: ${tokens} tokens > ${windowTokens} maximum` };
  });
}

async function callsOf(work: () => Promise<unknown>): Promise<number> {
  const before = fixture.provider.calls;
  await work();
  return fixture.provider.calls - before;
}

const textOf = (count: number): string => 'some words of a chat '.repeat(count);

it('a prompt of 320 KB of base64 is answered in a window of 200,000 tokens, and so are those after it', async () => {
  await a.prompt(textOf(20_000));
  limitTo(200_000, 1.7);
  const prompt = randomBytes(240_000).toString('base64');
  expect(prompt).toHaveLength(320_000);
  expect((await a.prompt(prompt)).content).toBe('read 1 messages');
  expect(await callsOf(() => a.prompt('and then?'))).toBe(1);
});

it('a session stays usable after a prompt that cannot fit at all, whose error names the limit', async () => {
  limitTo(100_000, 1.4);
  await a.prompt('before');
  const prompt = randomBytes(240_000).toString('base64');
  const error = await failure(a.prompt(prompt));
  expect(error).toMatchObject({ reason: 'upstream_error', retryable: false, data: { limit_tokens: 100_000 } });
  expect(error.message).toContain('takes at most 100000 tokens');
  expect((await a.prompt('after')).content).toMatch(/^read/);
  expect(await callsOf(() => a.prompt('and on'))).toBe(1);
});

function startOf(answer: { readonly events: readonly Record<string, unknown>[] }) {
  return answer.events[0]?.TaskStarted as { readonly context: { readonly trimmed: number } };
}

it('the accepted size of a conversation is stored for all instances, for this conversation and model only', async () => {
  for (let turn = 0; turn < 6; turn++) {
    for (const session_id of ['s', 'other']) await a.prompt(`${turn} ${textOf(300)}`, { session_id });
  }
  limitTo(8_192, 4);
  const running = a.stream('a question');
  await running.answer;
  expect(running.events.some(({ event }) => 'ContextTrimmed' in event)).toBe(true);
  expect((await running.answer).events.map((event) => Object.keys(event)[0])).toContain('ContextTrimmed');
  const b = await fixture.instance();
  expect(await callsOf(() => a.prompt('another'))).toBe(1);
  expect(await callsOf(() => b.prompt('one more'))).toBe(1);
  const { context } = startOf(await b.prompt('with another model', { model: 'anthropic/another' }));
  expect(context.trimmed).toBe(0);
  const other = await a.prompt('in another conversation', { session_id: 'other' });
  expect(startOf(other).context.trimmed).toBe(0);
});

it('a conversation is kept within the window that MODELS names, behind any base URL', async () => {
  const model = 'openai/@cf/some/model';
  const MODELS = JSON.stringify({ [model]: { context_tokens: 8_192 } });
  const env = {
    OPENAI_API_KEY: 'k',
    OPENAI_BASE_URL: `${fixture.provider.url}/v1/?api-version=x`,
    MODEL: model,
    MODELS,
  };
  const c = await fixture.instance(env);
  limitTo(8_192, 4);
  for (let turn = 0; turn < 12; turn++) expect(await callsOf(() => c.prompt(`${turn} ${textOf(150)}`))).toBe(1);
  expect(fixture.provider.requests.at(-1)?.path).toBe('/v1/responses?api-version=x');
});
