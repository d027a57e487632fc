// A turn sends the tool calls of earlier turns with their results, and reasoning only to the model that signed it. In
// every wire format through the real SDK providers.
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { decodeDetail, encodeDetail } from '../../../../../shared/conversations/records/messages/message-detail.ts';
import type { Credential, Message, Toolset } from '../../../../../shared/engines/engine.ts';
import type { MessagePart } from '../../../../../shared/messages/message-parts.ts';
import { type ModelProvider, startModelProvider } from '../../../../support/fakes/model-provider/model-provider.ts';
import { CASES, createTestEngine, runTurn, type TurnRequest } from '../../../../support/fixtures/turns/engines.ts';

let provider: ModelProvider;
beforeAll(async () => {
  provider = await startModelProvider();
});
afterEach(() => provider.behave());
afterAll(() => provider.close());

const ADDER: Toolset = {
  chars: 100,
  tools: [{ name: 'math__add', server: 'math', tool: 'add', inputSchema: { type: 'object', properties: {} } }],
  call: async (_tool, { a, b }) => ({ content: `sum ${Number(a) + Number(b)}`, isError: false }),
};
const ASK = '[[tool math__add {"a": 2, "b": 40}]] please';

/** Runs a turn and returns the conversation after it, as the gateway stores it. */
async function converse(request: TurnRequest & { readonly messages: readonly Message[] }): Promise<readonly Message[]> {
  const parts: MessagePart[] = [];
  const { outcome } = await runTurn(createTestEngine(provider), { ...request, record: (part) => parts.push(part) });
  return [...request.messages, toAnswer(outcome.content, parts, request.model)];
}

function toAnswer(content: string, parts: readonly MessagePart[], model: string): Message {
  const detail = encodeDetail(content, parts);
  if (detail === undefined) return { role: 'assistant', content };
  return { role: 'assistant', content, parts: decodeDetail(content, detail), model };
}

const ask = (content: string): Message => ({ role: 'user', content });

const Messages = z.array(z.unknown());

/** The marks of the prompt cache move on with each request. */
function withoutMarks(list: readonly unknown[]): readonly unknown[] {
  return Messages.parse(
    JSON.parse(JSON.stringify(list, (key, value) => (key === 'cache_control' ? undefined : value))),
  );
}

/** The list of messages in the body of a request, by its wire, without marks of the cache. */
function sentMessages(index = -1): readonly unknown[] {
  const body = provider.requests.at(index)?.body;
  for (const name of ['messages', 'input', 'contents']) {
    const list: unknown = typeof body === 'object' && body !== null ? Reflect.get(body, name) : undefined;
    if (Array.isArray(list)) return withoutMarks(list);
  }
  throw new Error('no messages');
}

const lastBody = (): string => JSON.stringify(provider.requests.at(-1)?.body);

describe.each(CASES)('$provider', ({ model, provider: name }) => {
  it('a provider receives the tool calls and results of the turn before, in its own form', async () => {
    const first = await converse({ model, messages: [ask(ASK)], tools: ADDER });
    const inTurn = sentMessages();
    await converse({ model, messages: [...first, ask('and now?')], tools: ADDER });
    // The call and its result are sent again byte for byte.
    expect(JSON.stringify(sentMessages().slice(0, inTurn.length))).toBe(JSON.stringify(inTurn));
    expect(sentMessages().length).toBe(inTurn.length + 2);
    expect(lastBody()).toContain('sum 42');
  });

  it('a provider answers the last prompt where the turn before it has left no answer', async () => {
    const { outcome } = await runTurn(createTestEngine(provider), {
      model,
      messages: [ask('[[say first]] [[chunks 2]]'), ask('second')],
    });
    expect(lastBody()).toContain('[[say first]]');
    expect(outcome.content).toBe('You said: second');
  });

  it.each(CASES.filter((other) => other.model !== model))(
    'tool calls and results of one provider are handed over to $provider',
    async (other) => {
      const first = await converse({ model, messages: [ask(ASK)], tools: ADDER });
      await converse({ model: other.model, messages: [...first, ask('and now?')], tools: ADDER });
      const own = await converse({ model: other.model, messages: [ask(ASK)], tools: ADDER });
      const inOwnForm = sentMessages();
      await converse({ model: other.model, messages: [...own, ask('and now?')], tools: ADDER });
      await converse({ model: other.model, messages: [...first, ask('and now?')], tools: ADDER });
      // As if it had made the call itself, ids aside.
      const withoutIds = (list: readonly unknown[]) =>
        JSON.stringify(list, (key, value) => (/(^|_)id$|^thoughtSignature$/.test(key) ? undefined : value));
      expect(withoutIds(sentMessages()).startsWith(withoutIds(inOwnForm).slice(0, -1))).toBe(true);
    },
  );

  it('a model without tools receives earlier tool calls, and cannot call a tool that no longer exists', async () => {
    const first = await converse({ model, messages: [ask(ASK)], tools: ADDER });
    const { outcome } = await runTurn(createTestEngine(provider), { model, messages: [...first, ask(ASK)] });
    expect(lastBody()).toContain('sum 42');
    expect(provider.requests.at(-1)?.body).toHaveProperty('tools');
    expect(outcome.content).toMatch(/^The tool said: .*There is no such tool\./);
  });

  it('a provider receives a result for a call that was cut off, and no call id twice', async () => {
    const call = { type: 'tool_call', call_id: 'call_0', name: 'math__add', arguments: '{"a":1}' } as const;
    const result = {
      type: 'tool_result',
      call_id: 'call_0',
      name: 'math__add',
      content: ' ',
      is_error: false,
    } as const;
    await converse({
      model,
      tools: ADDER,
      messages: [
        ask('one'),
        { role: 'assistant', content: 'a', parts: [{ type: 'text', text: 'a' }, call, result], model },
        ask('two'),
        { role: 'assistant', content: '', parts: [{ ...call }], model },
        ask('three'),
      ],
    });
    const ids = [...lastBody().matchAll(/"(?:call_)?id":"(call_0\w*)"/g)].map(([, id]) => id);
    if (!model.startsWith('google/')) expect(ids).toEqual(expect.arrayContaining(['call_0', 'call_0_2']));
    expect(lastBody()).toContain('There is no result');
    expect(lastBody()).toContain('(no output)');
  });

  it('a provider receives reasoning of its own only: not of another model, not of the account of a login', async () => {
    const signed = {
      type: 'reasoning',
      text: 'Two and forty.',
      metadata: {
        anthropic: { signature: 'signed-by-it' },
        openai: { itemId: 'rs_1', reasoningEncryptedContent: 'signed-by-it' },
        google: { thoughtSignature: 'signed-by-it' },
        vertex: { thoughtSignature: 'signed-by-it' },
      },
    } as const;
    const answer = { role: 'assistant', content: 'Yes.', parts: [signed, { type: 'text', text: 'Yes.' }] } as const;
    const send = (by: string, credential?: Credential) =>
      runTurn(createTestEngine(provider, { providerUrls: URLS }), {
        model,
        messages: [ask('one'), { ...answer, model: by }, ask('two')],
        ...(credential !== undefined && { credential }),
      });
    const URLS = { anthropic: provider.url, openai: provider.url, google: provider.url, chatgpt: provider.url };
    await send(model);
    expect(lastBody()).toContain(name === 'groq' ? signed.text : 'signed-by-it');
    await send('anthropic/another');
    expect(lastBody()).not.toMatch(/signed-by-it|Two and forty/);
    // The operator's servers have no logins.
    if (name !== 'groq' && name !== 'my-server') await send(model, { provider: name, token: () => 'own' });
    expect(lastBody()).not.toMatch(/signed-by-it|Two and forty/);
    expect(lastBody()).toContain('Yes.');
  });

  it('a provider is sent a call always with its result where the conversation is trimmed', async () => {
    const first = await converse({ model, messages: [ask(`${ASK} ${'word '.repeat(3_000)}`)], tools: ADDER });
    const second = await converse({ model, messages: [...first, ask(ASK)], tools: ADDER });
    let refused = false;
    provider.behave(() => {
      if (refused) return { text: 'ok' };
      refused = true;
      return { status: 400, message: 'prompt is too long: context_length_exceeded' };
    });
    const third = await converse({ model, messages: [...second, ask('last')], tools: ADDER });
    expect(third.at(-1)?.content).toBe('ok');
    // Of the second turn: the call, its result, and the answer that repeats the result.
    expect(
      lastBody().match(/"name":"math__add","(?:input|arguments|args)"|"arguments":[^}]*"name":"math__add"/g),
    ).toHaveLength(1);
    expect(lastBody().match(/sum 42/g)).toHaveLength(2);
    expect(lastBody()).not.toContain('word word');
  });
});
