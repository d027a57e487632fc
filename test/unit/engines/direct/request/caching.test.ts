// Each request begins with the one before it, byte for byte, and requests caching where a provider requires that, so
// that the prompt caches of providers serve it. In every wire format through the real SDK providers.
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { decodeDetail, encodeDetail } from '../../../../../shared/conversations/records/messages/message-detail.ts';
import type { Message, Toolset } from '../../../../../shared/engines/engine.ts';
import type { MessagePart } from '../../../../../shared/messages/message-parts.ts';
import { type ModelProvider, startModelProvider } from '../../../../support/fakes/model-provider/model-provider.ts';
import { billChat } from '../../../../support/fixtures/turns/billed-chat.ts';
import { CASES, createTestEngine, runTurn } from '../../../../support/fixtures/turns/engines.ts';

let provider: ModelProvider;
beforeAll(async () => {
  provider = await startModelProvider();
});
afterEach(() => provider.behave());
afterAll(() => provider.close());

const TOOLS: Toolset = {
  chars: 100,
  tools: [{ name: 'math__add', server: 'math', tool: 'add', inputSchema: { type: 'object', properties: {} } }],
  call: async (_tool, { a = 0 }) => ({ content: `result ${a}\n`, isError: a === 2 }),
};
const ask = (content: string): Message => ({ role: 'user', content });
const IMAGE = { type: 'image', media_type: 'image/png', data: 'iVBORw0KGgoAAAANSUhEUg==' } as const;
const PROMPTS: readonly Message[] = [
  ask('hello'),
  ask('[[tool math__add {"a": 1,  "b":{}}]] with one call'),
  { role: 'user', content: 'what is this?', parts: [{ type: 'text', text: 'what is' }, IMAGE] },
  ask('[[tool math__add {"a": 2} times 3]] with three calls that fail'),
  ask('[[think first this]] then speak'),
  ask('[[tool math__add {} times 2]] once more \ud83d\ude00 '),
  ask('the end'),
];
const MARKS = /,"cache_control":\{"type":"ephemeral"\}/g;
const LISTS = ['messages', 'input', 'contents'];

interface Sent {
  /** The messages, without their cache markers and the bracket at the end. */
  readonly messages: string;
  readonly rest: string;
  readonly marks: number;
}

function toSent(body: unknown): Sent {
  const members = Object.entries(Object(body));
  const json = (isList: boolean) =>
    JSON.stringify(Object.fromEntries(members.filter(([name]) => LISTS.includes(name) === isList)));
  const marks = JSON.stringify(body).match(MARKS)?.length ?? 0;
  return { messages: json(true).replaceAll(MARKS, '').slice(0, -2), rest: json(false), marks };
}

describe.each(CASES)('$provider', ({ model, provider: name }) => {
  it('each request begins with the previous one, images, calls, failures and reasoning included', async () => {
    const engine = createTestEngine(provider);
    const from = provider.requests.length;
    let messages: readonly Message[] = [];
    for (const prompt of PROMPTS) {
      messages = [...messages, prompt];
      const parts: MessagePart[] = [];
      const request = { model, messages, tools: TOOLS, instructions: 'Be brief.', settings: { seed: 1 } };
      const { outcome } = await runTurn(engine, { ...request, record: (part) => parts.push(part) });
      const { content } = outcome;
      const detail = encodeDetail(content, parts);
      const stored = detail === undefined ? {} : { parts: decodeDetail(content, detail), model };
      messages = [...messages, { role: 'assistant', content, ...stored }];
    }
    const sent = provider.requests.slice(from).map(({ body }) => toSent(body));
    expect(sent.length).toBe(PROMPTS.length + 6);
    for (const [index, { messages: own, rest }] of sent.entries()) {
      const before = sent[index - 1];
      if (before === undefined) continue;
      expect(own.startsWith(before.messages)).toBe(true);
      expect(own.length).toBeGreaterThan(before.messages.length);
      expect(rest).toBe(before.rest);
    }
    // Anthropic allows 4 marks; others cache by themselves.
    expect(Math.max(...sent.map(({ marks }) => marks))).toBe(name === 'anthropic' ? 3 : 0);
    const keys = new Set(sent.map(({ rest }) => JSON.parse(rest).prompt_cache_key));
    expect([...keys]).toEqual([name === 'openai' ? 'conv_1' : undefined]);
  });

  it.each([400, 422])(
    'the prompt cache is not requested again after the server has refused it (%s)',
    async (status) => {
      provider.behave(({ body }) =>
        /cache_control|prompt_cache_key/.test(JSON.stringify(body))
          ? { status, message: 'Extra inputs are not permitted: cache_control, prompt_cache_key' }
          : { text: 'fine' },
      );
      const { outcome } = await runTurn(createTestEngine(provider), { model });
      expect(outcome.content).toBe('fine');
      expect(outcome).not.toHaveProperty('warnings');
    },
  );
});

it('a chat of 30 turns costs at most 0.4 of its input, as Anthropic bills it', async () => {
  const { billed, whole } = await billChat(30);
  expect(billed / whole).toBeLessThan(0.4);
});

it('requests to Anthropic mark the instructions, the prompt and the end of the previous request for its cache', async () => {
  const messages = ['one', 'two', 'three'].flatMap((content): Message[] => [
    { role: 'user', content },
    { role: 'assistant', content: `answer to ${content}` },
  ]);
  const model = 'anthropic/claude-sonnet-4-5';
  await runTurn(createTestEngine(provider), { model, messages: messages.slice(0, 5), instructions: 'Be brief.' });
  const mark = { cache_control: { type: 'ephemeral' } };
  const text = (value: string, marks = {}) => [{ type: 'text', text: value, ...marks }];
  expect(provider.requests.at(-1)?.body).toMatchObject({
    system: text('Be brief.', mark),
    messages: [
      { role: 'user', content: text('one') },
      { role: 'assistant', content: text('answer to one') },
      { role: 'user', content: text('two', mark) },
      { role: 'assistant', content: text('answer to two') },
      { role: 'user', content: text('three', mark) },
    ],
  });
});
