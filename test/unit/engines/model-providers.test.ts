// Servers of the operator with an OpenAI-compatible API (MODEL_PROVIDERS) are called with their own settings, and their
// streams are read as real servers send them.

import { readFileSync } from 'node:fs';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { z } from 'zod';
import { loadConfig } from '../../../shared/config/load-config.ts';
import type { Message, Toolset } from '../../../shared/engines/engine.ts';
import { createEngines } from '../../../shared/engines/engines.ts';
import { errorFields } from '../../../shared/log.ts';
import { type ModelProvider, startModelProvider } from '../../support/fakes/model-provider/model-provider.ts';
import { createTestEngine, failTurn, KEY, runTurn } from '../../support/fixtures/turns/engines.ts';

let provider: ModelProvider;
beforeAll(async () => {
  provider = await startModelProvider();
});
afterEach(() => provider.behave());
afterAll(() => provider.close());

/** The engines of a gateway with this one server, as its configuration names it. */
function enginesWith(entry: object, more: Readonly<Record<string, string>> = {}) {
  const MODEL_PROVIDERS = JSON.stringify({ own: { base_url: `${provider.url}/v1`, wire: 'chat', ...entry } });
  return createEngines(loadConfig({ MODEL_PROVIDERS, MODEL: 'own/some/model:7b', ...more }), {
    direct: { retryMs: 2 },
  });
}

async function ask(entry: object, more?: Readonly<Record<string, string>>) {
  const { engine, model } = enginesWith(entry, more).resolve(undefined);
  return (await runTurn(engine, { model, prompt: 'hi' })).outcome;
}

describe.each(['chat', 'responses'] as const)('a server of the operator with the wire %s', (wire) => {
  it('a server of the operator answers, and is named in the model and in errors', async () => {
    expect(await ask({ wire })).toMatchObject({ content: 'You said: hi', model: 'own/some/model:7b' });
    const { engine, model } = enginesWith({ wire }).resolve('own/x');
    const { error } = await failTurn(engine, { model, prompt: '[[status 401]]' });
    expect(error.message).toMatch(/^own refused the configured credentials \(401\)/);
    expect(error.data).toMatchObject({ provider: 'own', model: 'own/x' });
  });

  it.each([
    ['', '/v1/'],
    ['/', '/v1/'],
    ['/v1', '/v1/'],
    ['/v1/?api-version=2024-10-21&x=1', '/v1/'],
    ['/openai/deployments/d/v1?api-version=2024-10-21#top', '/openai/deployments/d/v1/'],
  ])('a server of the operator is reached at its address ending in %j, with its query', async (suffix, path) => {
    await ask({ wire, base_url: provider.url + suffix });
    const [, query = ''] = suffix.replace(/#.*/, '').split('?');
    const end = wire === 'chat' ? 'chat/completions' : 'responses';
    expect(provider.requests.at(-1)?.path).toBe(`${path}${end}${query === '' ? '' : `?${query}`}`);
  });

  it('a server of the operator gets its key and its own headers, and neither where none is configured', async () => {
    await ask({ wire, api_key: 'own-key', headers: { 'X-Team': 'a b', 'User-Agent': 'me' } });
    expect(provider.requests.at(-1)?.headers).toMatchObject({ authorization: 'Bearer own-key', 'x-team': 'a b' });
    expect(provider.requests.at(-1)?.headers['user-agent']).toMatch(/^me /);
    await ask({ wire, headers: { 'api-key': 'azure-key' } });
    expect(provider.requests.at(-1)?.headers).toMatchObject({ 'api-key': 'azure-key' });
    expect(provider.requests.at(-1)?.headers).not.toHaveProperty('authorization');
    await ask({ wire, headers: { authorization: 'Basic abc' } });
    expect(provider.requests.at(-1)?.headers.authorization).toBe('Basic abc');
    // Keys of other providers stay where they belong.
    await ask({ wire }, { OPENAI_API_KEY: 'sk-of-openai' });
    expect(JSON.stringify(provider.requests.at(-1)?.headers)).not.toContain('sk-of-openai');
  });

  it('the key and the header values of a server are removed from messages and logs', async () => {
    provider.behave(({ headers }) => ({ status: 400, message: `no: ${headers.authorization} ${headers['x-token']}` }));
    const entry = { wire, api_key: 'qwertyuiop', headers: { 'x-token': 'asdfghjkl' } };
    const { engine, model } = enginesWith(entry).resolve(undefined);
    const { error } = await failTurn(engine, { model });
    const shown = JSON.stringify([error.toWire('r'), errorFields(error)]);
    expect(error.message).toMatch(/^own refused the request \(400\): no: /);
    expect(shown).not.toMatch(/qwertyuiop|asdfghjkl/);
  });

  it('a credential of a server is removed without its scheme, and one of its address', async () => {
    provider.behave(({ path }) => ({ status: 400, message: `asdfghjkl is wrong at ${path}` }));
    const entry = {
      wire,
      base_url: `${provider.url}?code=qwertyuiop&v=1`,
      headers: { authorization: 'Bearer asdfghjkl' },
    };
    const { engine, model } = enginesWith(entry).resolve(undefined);
    const { error } = await failTurn(engine, { model });
    expect(error.message).toMatch(/ \[redacted\] is wrong at .*code=\[redacted\]&v=1$/);
    expect(JSON.stringify([error.toWire('r'), errorFields(error)])).not.toMatch(/qwertyuiop|asdfghjkl/);
  });

  it('credentials are removed in the forms of addresses and of JSON, and those of other providers too', async () => {
    const [own, other] = ['own-key/+=abc', 'other-key-of-b'];
    const forms = [own, encodeURIComponent(own), own.replaceAll('/', '\\/'), other];
    provider.behave(() => ({ status: 400, message: forms.join(' and ') }));
    const b = { base_url: 'http://127.0.0.1:1/v1', wire, api_key: other };
    const MODEL_PROVIDERS = JSON.stringify({ own: { base_url: `${provider.url}/v1`, wire, api_key: own }, b });
    const { engine, model } = enginesWith({ wire }, { MODEL_PROVIDERS }).resolve(undefined);
    const { error } = await failTurn(engine, { model });
    expect(error.message).toMatch(/: \[redacted\] and \[redacted\] and \[redacted\] and \[redacted\]$/);
  });

  it('a server with a word as its key has that word in messages, and its overflows are recognised', async () => {
    provider.behave(({ body }) =>
      JSON.stringify(body).includes('one') ? { status: 400, message: 'context size exceeded' } : { text: 'fine' },
    );
    const { engine, model } = enginesWith({ wire, api_key: 'x' }).resolve(undefined);
    expect((await runTurn(engine, { model, messages: CONVERSATION })).outcome.content).toBe('fine');
    provider.behave(() => ({ status: 400, message: 'an extra text' }));
    expect((await failTurn(engine, { model })).error.message).toMatch(/: an extra text$/);
  });

  it('a server of the operator is called through the proxy of the environment', async () => {
    const seen: IncomingMessage[] = [];
    const proxy = createServer((request, response) => {
      seen.push(request);
      response.writeHead(418).end('a proxy');
    });
    await new Promise<void>((resolve) => proxy.listen(0, '127.0.0.1', resolve));
    try {
      const HTTP_PROXY = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
      const { engine, model } = enginesWith({ wire, base_url: 'http://models.invalid/v1' }, { HTTP_PROXY }).resolve(
        'own/x',
      );
      const { error } = await failTurn(engine, { model });
      expect(error.message).toBe('own refused the request (418): a proxy');
      expect(seen[0]?.url).toMatch(/^http:\/\/models\.invalid\/v1\//);
    } finally {
      await new Promise((resolve) => proxy.close(resolve));
    }
  });
});

it('a server of the operator is refused under a login, which is for the models of its provider only', () => {
  const credential = { provider: 'openai', token: () => 'own' } as const;
  expect(() => enginesWith({}).resolve('own/x', credential)).toThrow(
    expect.objectContaining({ data: { issues: [{ path: 'model', message: expect.stringContaining('openai') }] } }),
  );
});

it('the error of an unknown model lists the providers of the operator', () => {
  expect(() => enginesWith({}).resolve('other/x')).toThrow(
    expect.objectContaining({ data: { issues: [{ path: 'model', message: expect.stringContaining('own/…') }] } }),
  );
});

const chunk = (choices: unknown, more: object = {}) =>
  `data: ${JSON.stringify({ id: 'c1', object: 'chat.completion.chunk', created: 1_732_551_988, model: 'm', choices, ...more })}\n\n`;
const DONE = 'data: [DONE]\n\n';

/** Each stream contains `Hello`, in the format of the named server. */
const STREAMS: readonly (readonly [name: string, body: string, usage?: object])[] = [
  [
    'vLLM: usage in a chunk without choices',
    chunk([{ index: 0, delta: { role: 'assistant', content: '' }, logprobs: null, finish_reason: null }]) +
      chunk([{ index: 0, delta: { content: 'Hello' }, logprobs: null, finish_reason: null }]) +
      chunk([{ index: 0, delta: { content: '' }, logprobs: null, finish_reason: 'stop', stop_reason: null }]) +
      chunk([], { usage: { prompt_tokens: 3, total_tokens: 4, completion_tokens: 1, prompt_tokens_details: null } }) +
      DONE,
    { input_tokens: 3, output_tokens: 1 },
  ],
  [
    'llama.cpp: a first content that is null, timings, the tokens in the last chunk',
    chunk([{ finish_reason: null, index: 0, delta: { role: 'assistant', content: null } }]) +
      chunk([{ finish_reason: null, index: 0, delta: { content: 'Hello' } }]) +
      chunk([{ finish_reason: 'stop', index: 0, delta: {} }], {
        usage: { completion_tokens: 1, prompt_tokens: 3, total_tokens: 4 },
        timings: { prompt_n: 3, prompt_ms: 203.3, predicted_n: 1 },
      }) +
      DONE,
    { input_tokens: 3, output_tokens: 1 },
  ],
  [
    'Ollama: text and end in one chunk, reasoning beside empty text',
    chunk([{ index: 0, delta: { role: 'assistant', content: '', reasoning: 'Hm' }, finish_reason: null }], {
      system_fingerprint: 'fp_ollama',
    }) +
      chunk([{ index: 0, delta: { role: 'assistant', content: 'Hello' }, finish_reason: 'stop' }]) +
      DONE,
  ],
  [
    'Groq: its usage in a member of its own',
    chunk([{ index: 0, delta: { role: 'assistant', content: 'Hello' }, logprobs: null, finish_reason: null }], {
      x_groq: { id: 'req_1' },
    }) +
      chunk([{ index: 0, delta: {}, logprobs: null, finish_reason: 'stop' }], {
        x_groq: { id: 'req_1', usage: { queue_time: 0.1, prompt_tokens: 3, prompt_time: 0, completion_tokens: 1 } },
      }) +
      DONE,
    { input_tokens: 3, output_tokens: 1 },
  ],
  [
    'Together: its own word for the end, members that are null',
    chunk(
      [
        {
          index: 0,
          text: 'Hello',
          logprobs: null,
          finish_reason: null,
          seed: null,
          delta: { token_id: 1, role: 'assistant', content: 'Hello', tool_calls: null },
        },
      ],
      { usage: null },
    ) +
      chunk(
        [
          {
            index: 0,
            text: '',
            finish_reason: 'eos',
            seed: 5,
            delta: { token_id: 0, role: 'assistant', content: '', tool_calls: null },
          },
        ],
        {
          usage: { prompt_tokens: 3, completion_tokens: 1, total_tokens: 4, cached_tokens: 0 },
        },
      ) +
      DONE,
    { input_tokens: 3, output_tokens: 1 },
  ],
  [
    'Azure: a first chunk about the filter of the prompt only',
    `data: ${JSON.stringify({ choices: [], created: 0, id: '', model: '', object: '', prompt_filter_results: [{ prompt_index: 0 }] })}\n\n` +
      chunk([
        {
          content_filter_results: { hate: { filtered: false } },
          delta: { content: 'Hello' },
          finish_reason: null,
          index: 0,
        },
      ]) +
      chunk([{ content_filter_results: {}, delta: {}, finish_reason: 'stop', index: 0 }]) +
      DONE,
  ],
  [
    'Mistral: text and thoughts as lists of parts',
    chunk([
      {
        index: 0,
        delta: { role: 'assistant', content: [{ type: 'thinking', thinking: [{ type: 'text', text: 'Hm' }] }] },
        finish_reason: null,
      },
    ]) +
      chunk([{ index: 0, delta: { content: [{ type: 'text', text: 'Hello' }] }, finish_reason: null }]) +
      chunk([{ index: 0, delta: { content: '' }, finish_reason: 'stop' }], {
        usage: { prompt_tokens: 3, completion_tokens: 1 },
      }),
    { input_tokens: 3, output_tokens: 1 },
  ],
  [
    'OpenRouter: comments as keep-alives, a second choice, empty chunks',
    `: OPENROUTER PROCESSING\n\n${chunk([{ index: 0, delta: { role: 'assistant', content: 'Hello' }, finish_reason: null, native_finish_reason: null }])}` +
      `${chunk([{ index: 0, delta: {}, finish_reason: 'stop', native_finish_reason: 'completed' }])}${DONE}`,
  ],
  [
    'a server without ids, roles and a reason for the end',
    `data: {"choices":[{"delta":{"content":"Hello"}}]}\n\n${DONE}`,
  ],
  [
    'a server that sends whole messages and counts of other types',
    `data: {"created":"now","model":null,"choices":[{"index":0,"message":{"role":"model","content":"Hello"},"finish_reason":"STOP"}],"usage":{"prompt_tokens":"3"}}\n\n`,
  ],
  [
    'a server with events of its own',
    `event: status\ndata: {"status":"loading"}\n\n${chunk([{ delta: { content: 'Hello', sparkle: { glow: 1 } }, finish_reason: 5 }])}` +
      `data: {"choices":"none"}\n\n${chunk([{ delta: null, finish_reason: 'stop' }])}`,
  ],
];

describe.each(STREAMS.map(([name, body, usage = {}]) => [name, body, usage] as const))(
  'a stream of %s',
  (_name, body, usage) => {
    it.each([undefined, 1, 7])('a stream of %s is an answer, in pieces of %s bytes', async (pieceBytes) => {
      provider.behave(() => ({ body, ...(pieceBytes !== undefined && { pieceBytes }) }));
      const { outcome } = await runTurn(createTestEngine(provider), { model: 'groq/m' });
      expect(outcome).toMatchObject({ content: 'Hello', finishReason: 'stop', usage });
    });
  },
);

it.each([
  ['chat completions', 'groq/m', 'chat-llama-cpp.sse', 'length'],
  // It reports an answer that was cut at the limit as complete.
  ['Responses', 'my-server/m', 'responses-llama-cpp.sse', 'stop'],
])('a recorded stream of llama.cpp (b11434) is an answer: %s', async (_wire, model, file, finishReason) => {
  const body = readFileSync(join(import.meta.dirname, '../../support/fakes/streams', file), 'utf8');
  provider.behave(() => ({ body, pieceBytes: 100 }));
  const { outcome } = await runTurn(createTestEngine(provider), { model });
  expect(outcome).toMatchObject({ content: 'Hello there,', finishReason });
  expect(outcome.usage).toMatchObject({ input_tokens: 33, output_tokens: 3, total_tokens: 36 });
});

const CONVERSATION: readonly Message[] = [
  { role: 'user', content: 'one' },
  {
    role: 'assistant',
    content: 'two',
    model: 'groq/m',
    parts: [
      { type: 'reasoning', text: 'Hm' },
      { type: 'text', text: 'two' },
    ],
  },
  { role: 'user', content: 'three' },
];

it.each(['my-server/m', 'openai/m'])('each message to %s has a type, which llama.cpp requires', async (model) => {
  await runTurn(createTestEngine(provider), { model, messages: CONVERSATION });
  const { input } = z.object({ input: z.array(z.object({ type: z.string() })) }).parse(provider.requests.at(-1)?.body);
  expect(input.map(({ type }) => type)).toEqual(['message', 'message', 'message']);
});

it.each([
  ['stream_options', 'body: stream_options: Extra inputs are not permitted', 422],
  [
    'reasoning_content',
    "'messages.1' : for 'role:assistant' the following must be satisfied[('messages.1' : property 'reasoning_content' is unsupported)]",
    400,
  ],
])('a server that does not know the member %s is sent it no more', async (member, message, status) => {
  provider.behave(({ body }) => (JSON.stringify(body).includes(member) ? { status, message } : { text: 'fine' }));
  const engine = createTestEngine(provider);
  const from = provider.calls;
  for (let turn = 0; turn < 2; turn++) {
    const { outcome } = await runTurn(engine, { model: 'groq/m', messages: CONVERSATION });
    expect(outcome).toMatchObject({ content: 'fine' });
    expect(outcome).not.toHaveProperty('warnings');
  }
  expect(provider.calls - from).toBe(3);
});

it('turns that run at the same time all leave out what a server refuses', async () => {
  provider.behave(({ body }) =>
    JSON.stringify(body).includes('stream_options')
      ? { status: 400, message: 'Unknown field: stream_options', delayMs: 50 }
      : { text: 'fine' },
  );
  const engine = createTestEngine(provider);
  const turns = await Promise.all(Array.from({ length: 4 }, () => runTurn(engine, { model: 'groq/m' })));
  expect(turns.map(({ outcome }) => outcome.content)).toEqual(Array.from({ length: 4 }, () => 'fine'));
});

it('the type of an error event is bounded in the log, and without the key', async () => {
  const type = `Failed ${KEY} ${'x'.repeat(100_000)}`;
  provider.behave(() => ({ body: event({ error: { message: 'It broke.', type } }) }));
  const { error } = await failTurn(createTestEngine(provider), { model: 'groq/m' });
  const logged = JSON.stringify(errorFields(error));
  expect(logged).not.toContain(KEY);
  expect(logged.length).toBeLessThan(10_000);
});

it('a request whose refusal names a missing member is not repeated without it', async () => {
  provider.behave(() => ({ status: 400, message: 'Missing reasoning_content field in the assistant message' }));
  const from = provider.calls;
  await failTurn(createTestEngine(provider), { model: 'groq/m', messages: CONVERSATION });
  expect(provider.calls - from).toBe(1);
});

describe('a tool call of a server with chat completions', () => {
  const call = (one: object, reason: string | null = null) =>
    chunk([{ index: 0, delta: { tool_calls: [one] }, finish_reason: reason }]);

  it.each([
    [
      'in pieces',
      call({ index: 0, id: 'a', type: 'function', function: { name: 'add', arguments: '' } }) +
        call({ index: 0, function: { arguments: '{"a"' } }) +
        call({ index: 0, function: { arguments: ':1}' } }, 'tool_calls'),
    ],
    [
      'whole, at a plain stop',
      call({ id: 'a', index: 0, type: 'function', function: { name: 'add', arguments: '{"a":1}' } }, 'stop'),
    ],
    ['without id and index', call({ function: { name: 'add', arguments: '{"a":1}' } }, 'tool_calls')],
    [
      'with arguments as an object',
      call({ index: 0, id: 'a', function: { name: 'add', arguments: { a: 1 } } }, 'tool_calls'),
    ],
  ])('a tool call of a server with chat completions is run: %s', async (_name, body) => {
    const received: unknown[] = [];
    const tools: Toolset = {
      chars: 10,
      tools: [{ name: 'add', server: 's', tool: 'add', inputSchema: { type: 'object' } }],
      async call(_tool, args) {
        received.push(args);
        return { content: '2', isError: false };
      },
    };
    provider.behave(({ toolResults }) =>
      toolResults.length === 0 ? { body: body + DONE } : { text: `It is ${toolResults[0]}` },
    );
    const { outcome } = await runTurn(createTestEngine(provider), { model: 'groq/m', tools });
    expect(received).toEqual([{ a: 1 }]);
    expect(outcome.content).toBe('It is 2');
  });
});

const event = (value: object) => `data: ${JSON.stringify(value)}\n\n`;

it.each([
  [
    'of vLLM',
    event({ error: { object: 'error', message: 'It broke.', type: 'InternalServerError', code: 500 } }),
    'groq failed (500): It broke.',
  ],
  [
    'of older vLLM',
    event({ object: 'error', message: 'It broke.', type: 'BadRequestError', code: 400 }),
    'groq refused the request (400): It broke.',
  ],
  ['that is a text', event({ error: 'It broke.' }), 'groq failed (500): It broke.'],
  ['of FastAPI', event({ detail: 'It broke.' }), 'groq failed (500): It broke.'],
  [
    'of OpenRouter',
    event({ error: { code: 429, message: 'Slow down.' }, choices: [{ delta: {}, finish_reason: 'error' }] }),
    'groq rejected the call: rate limit exceeded (429): Slow down.',
  ],
  [
    'without a message',
    event({ choices: [{ delta: { content: 'Hel' }, finish_reason: 'error' }] }),
    'groq failed (500): the server ended its answer (error)',
  ],
  ['of a key', event({ error: { code: 401, message: 'Who?' } }), 'groq refused the configured credentials (401): Who?'],
  [
    'of the other wire',
    event({ type: 'response.created', response: {} }),
    'groq answered with something other than a stream of events (200, a stream of the Responses API; is groq in MODEL_PROVIDERS right?)',
  ],
])('a stream with an error %s fails with its message', async (_name, body, message) => {
  provider.behave(() => ({ body }));
  const { error } = await failTurn(createTestEngine(provider), { model: 'groq/m' });
  expect(error.message).toBe(message);
});
