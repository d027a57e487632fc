// A failure of a provider gives the caller an error with its cause, with the provider's message once if there is one,
// and is never an empty success.
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { clean, readProviderMessage } from '../../../../shared/engines/failures/provider-message.ts';
import { type ModelProvider, startModelProvider } from '../../../support/fakes/model-provider/model-provider.ts';
import type { Script } from '../../../support/fakes/model-provider/model-provider-script.ts';
import { CASES, createTestEngine, failTurn, KEY, runTurn } from '../../../support/fixtures/turns/engines.ts';

let provider: ModelProvider;
beforeAll(async () => {
  provider = await startModelProvider();
});
afterEach(() => provider.behave());
afterAll(() => provider.close());

const HTML = '<!DOCTYPE html><html><head><title>404 Not\n Found</title></head><body><p>nginx</p></body></html>';
const html = { 'content-type': 'text/html' };
const json = { 'content-type': 'application/json' };

const FAILURES: readonly (readonly [name: string, script: Script, message: string, more: object])[] = [
  [
    '401',
    { status: 401, message: 'invalid x-api-key' },
    'refused the configured credentials (401): invalid x-api-key',
    { retryable: false },
  ],
  [
    '403',
    { status: 403, message: 'Country not supported' },
    'refused the configured credentials (403): Country not supported',
    { retryable: false },
  ],
  [
    '402',
    { status: 402, message: 'Insufficient Balance' },
    'reports that the account has no quota left (402): Insufficient Balance',
    { retryable: false },
  ],
  [
    '400 about credit',
    { status: 400, message: 'Your credit balance is too low' },
    'reports that the account has no quota left (400): Your credit balance is too low',
    { retryable: false },
  ],
  [
    '404 of a missing route',
    { status: 404, body: HTML, headers: html },
    'has no such API (404; is VARIABLE right?): 404 Not Found',
    { retryable: false },
  ],
  [
    '404 of a server in Python',
    { status: 404, body: '{"detail":"Not Found"}', headers: json },
    'has no such API (404; is VARIABLE right?): Not Found',
    { retryable: false },
  ],
  [
    '429',
    { status: 429, message: 'slow down' },
    'rejected the call: rate limit exceeded (429): slow down',
    { retryable: true },
  ],
  [
    '502 of a proxy',
    { status: 502, body: HTML.replace('404 Not\n Found', 'Bad gateway'), headers: html },
    'failed (502): Bad gateway',
    { retryable: true },
  ],
  [
    '503 in plain text',
    { status: 503, body: 'upstream connect error', headers: { 'content-type': 'text/plain' } },
    'failed (503): upstream connect error',
    { retryable: true },
  ],
  [
    '500 without a body',
    { status: 500, body: '', headers: json },
    'failed (500): Internal Server Error',
    { retryable: true },
  ],
  [
    '200 with a web page',
    { body: HTML, headers: html },
    'answered with a web page (200, text/html; is VARIABLE right?): 404 Not Found',
    { retryable: false },
  ],
  [
    '200 with an error as JSON',
    { body: '{"error":"Unexpected endpoint or method."}', headers: json },
    'answered with something other than a stream of events (200, application/json; is VARIABLE right?): Unexpected endpoint or method.',
    { retryable: false },
  ],
  [
    '200 with nothing',
    { body: '' },
    'sent an empty answer (200)',
    { retryable: true, message: expect.stringMatching(/\(200\)$/) },
  ],
  ['a refusal without text', { text: '', end: 'refusal' }, 'declined to answer', { retryable: false }],
  ['an end without text', { text: '' }, 'ended without an answer (stop)', { retryable: false }],
  [
    'an end at the output limit without text',
    { text: '', end: 'length' },
    'ended without an answer',
    { retryable: false },
  ],
];
const VARIABLES = {
  ...{ anthropic: 'ANTHROPIC_BASE_URL', openai: 'OPENAI_BASE_URL', google: 'GOOGLE_CLOUD_LOCATION' },
  ...{ groq: 'groq in MODEL_PROVIDERS', 'my-server': 'my-server in MODEL_PROVIDERS' },
};

describe.each(CASES)('$provider', ({ model, provider: name, label }) => {
  it.each(FAILURES)('a failure of a provider is reported in one line: %s', async (_name, script, message, more) => {
    provider.behave(() => script);
    const { error } = await failTurn(createTestEngine(provider), { model });
    const expected = `${label} ${message.replace('VARIABLE', VARIABLES[name])}`;
    expect(error.message.slice(0, expected.length)).toBe(expected);
    expect(error.message).not.toMatch(/[<>\n]/);
    expect(error).toMatchObject({
      reason: 'upstream_error',
      data: { provider: name, model: expect.any(String) },
      ...more,
    });
  });

  it('whatever looks like a key is removed from the message of a provider', async () => {
    provider.behave(() => ({
      status: 400,
      message: `bad ${KEY} Bearer abc.def api_key=0123456789 ${'long '.repeat(200)}`,
    }));
    const { error } = await failTurn(createTestEngine(provider), { model });
    expect(error.message).toMatch(
      /^\S.* refused the request \(400\): bad \[redacted\] \[redacted\] api_key=\[redacted\] long/,
    );
    expect(error.message.length).toBeLessThan(400);
  });

  it('the wait that a provider requests is reported, and a turn waits no longer than its caller can', async () => {
    let left = 1;
    provider.behave(() =>
      left-- > 0 ? { status: 429, message: 'later', headers: { 'retry-after': '0.05' } } : { text: 'ok' },
    );
    const { events } = await runTurn(createTestEngine(provider), { model });
    expect(events[0]).toEqual({
      StreamError: {
        message: `${label} rejected the call: rate limit exceeded (429): later`,
        attempt: 1,
        retry_in_ms: expect.any(Number),
      },
    });
    provider.behave(() => ({ status: 429, headers: { 'retry-after': '11' } }));
    const before = provider.calls;
    const { error } = await failTurn(createTestEngine(provider), { model, retryWaitMsMax: 10_000 });
    expect(error).toMatchObject({ retryable: true, retryAfterMs: 11_000 });
    expect(provider.calls - before).toBe(1);
  });

  it('a failure after the request was sent is marked `sent`, so that callers do not repeat it blindly', async () => {
    const cut = await failTurn(createTestEngine(provider), { model, prompt: '[[chunks 4]] [[cut]]' });
    expect(cut.error.data).toMatchObject({ sent: true });
    const silent = createTestEngine(provider, { deadlines: { firstByteMs: 100 } });
    expect((await failTurn(silent, { model, prompt: '[[hang headers]]' })).error.data).toMatchObject({ sent: true });
    const away = createTestEngine({ ...provider, url: 'http://127.0.0.1:9' });
    const { error } = await failTurn(away, { model });
    expect(error).toMatchObject({ message: `${label} could not be reached (ECONNREFUSED)`, retryable: true });
    expect(error.data.sent).toBeUndefined();
  });
});

describe('what differs by provider', () => {
  const [anthropic, openai, google] = CASES;
  const sse = (...events: readonly object[]): string =>
    events.map((event) => `data: ${JSON.stringify(event)}\n\n`).join('');
  it.each([
    [
      anthropic.model,
      sse(
        { type: 'message_start', message: { usage: { input_tokens: 1 } } },
        {
          type: 'message_delta',
          delta: { stop_reason: 'refusal', stop_details: { type: 'refusal', explanation: 'Not this.' } },
        },
        { type: 'message_stop' },
      ),
      'Anthropic declined to answer (refusal): Not this.',
    ],
    [
      openai.model,
      sse(
        { type: 'response.created', response: {} },
        { type: 'response.failed', response: { error: { code: 'server_error', message: 'It broke.' } } },
      ),
      'OpenAI failed (500): It broke.',
    ],
    [
      openai.model,
      sse({ type: 'response.failed', response: {} }),
      'OpenAI failed (500): the response failed without a reason',
    ],
    [openai.model, sse({ type: 'error', error: { type: 'x', message: 'Odd.' } }), 'OpenAI failed (500): Odd.'],
    [
      openai.model,
      sse({ object: 'chat.completion.chunk', choices: [{ delta: { content: 'Hello' } }] }),
      'OpenAI answered with something other than a stream of events (200, a stream of chat completions; is OPENAI_BASE_URL right?)',
    ],
    [
      openai.model,
      sse({ error: { code: 401, message: 'Who?' } }),
      'OpenAI refused the configured credentials (401): Who?',
    ],
    [
      openai.model,
      sse({ type: 'response.incomplete', response: { incomplete_details: { reason: 'content_filter' } } }),
      'OpenAI declined to answer (content_filter)',
    ],
    [
      google.model,
      sse({ promptFeedback: { blockReason: 'PROHIBITED_CONTENT' } }),
      'Google Vertex AI declined to answer (PROHIBITED_CONTENT)',
    ],
    [
      google.model,
      sse({ error: { code: 400, message: 'Bad.', status: 'INVALID_ARGUMENT' } }),
      'Google Vertex AI refused the request (400): Bad.',
    ],
    [
      google.model,
      sse({ candidates: [{ finishReason: 'MALFORMED_FUNCTION_CALL' }] }),
      'Google Vertex AI could not complete its answer (MALFORMED_FUNCTION_CALL)',
    ],
  ])('a stream of %s that fails has the message of the failure', async (model, body, message) => {
    provider.behave(() => ({ body }));
    const { error } = await failTurn(createTestEngine(provider), { model });
    expect(error.message).toBe(message);
  });
});

it('an answer that exceeds the gateway’s own bound names this bound as the gateway’s', async () => {
  const engine = createTestEngine(provider, { answerBytesMax: 2 << 20 });
  const { error } = await failTurn(engine, { model: CASES[0].model, prompt: '[[size 4000000]]' });
  expect(error).toMatchObject({
    message: 'The answer of Anthropic exceeds this gateway’s limit for one turn (2 MiB)',
    data: { limit_bytes: 2 << 20 },
    retryable: false,
  });
});

it.each([
  ['{"error":{"message":"a","code":"c","type":"t"}}', { text: 'a', code: 'c t' }],
  ['[{"error":{"message":"a","status":"S"}}]', { text: 'a', code: 'S' }],
  ['{"object":"error","message":"a","code":40303}', { text: 'a', code: '' }],
  ['{"detail":[{"loc":["body"],"msg":"a"}]}', { text: 'a', code: '' }],
  ['{"error":', { text: '', code: '' }],
  ['data: {"error": {"message": "a", "code": "500"}}\n\ndata: [DONE]\n\n', { text: 'a', code: '500' }],
  ['event: error\ndata: {"error":{"message":"a"}}', { text: 'a', code: '' }],
  ['<h1>Not &lt; there</h1>', { text: 'Not &lt; there', code: '' }],
  ['  ', { text: '', code: '' }],
])('the message of %s is read', (body, expected) => expect(readProviderMessage(body)).toEqual(expected));

it('any text becomes one line', () => {
  expect(clean('a\r\n\u0007b\u001b[31m  c')).toBe('a b [31m c');
  expect(clean('x'.repeat(400)).length).toBe(301);
});

it.each([
  [{ code: 'rate_limit_exceeded', type: 'tokens' }, 429, true],
  [{ code: null, type: 'rate_limit_error' }, 429, true],
  [{ code: 'invalid_api_key', type: 'invalid_request_error' }, 401, false],
  [{ code: null, type: 'authentication_error' }, 401, false],
  [{ code: 'context_length', type: 'invalid_request_error' }, 400, false],
  [{ code: '503', type: 'server_error' }, 503, true],
  [{ code: null, type: null }, 500, true],
])('an error event of chat completions has the status that its names mean: %j', async (named, status, retryable) => {
  provider.behave(() => ({ body: `data: ${JSON.stringify({ error: { message: 'no', ...named } })}\n\n` }));
  const { error } = await failTurn(createTestEngine(provider), { model: 'groq/llama' });
  expect(error).toMatchObject({ retryable, data: { provider: 'groq', model: 'groq/llama', status } });
});

it.each([
  '/chat/completions: Invalid model name passed in model=m. Call `/v1/models` to view available models for your key.',
  'm is not a valid model ID',
  'Model Not Exist',
  'Invalid model: m',
  'The provided model identifier is invalid.',
  "The requested model 'm' does not exist",
])('a server that refuses an unknown model with 400 is understood: %s', async (message) => {
  provider.behave(() => ({ status: 400, message }));
  const { error } = await failTurn(createTestEngine(provider), { model: 'groq/m' });
  expect(error).toMatchObject({ reason: 'invalid_params', data: { status: 400, issues: [{ path: 'model' }] } });
});

it.each(['Invalid model parameters', 'The file for this model does not fit', 'model output is invalid'])(
  'another refusal with 400 is not about the model: %s',
  async (message) => {
    provider.behave(() => ({ status: 400, message }));
    const { error } = await failTurn(createTestEngine(provider), { model: 'groq/m' });
    expect(error.reason).toBe('upstream_error');
  },
);

it('a key that LiteLLM without a database refuses with 400 is a refused credential', async () => {
  const body = '{"error":{"message":"No connected db.","type":"no_db_connection","param":null,"code":"400"}}';
  provider.behave(() => ({ status: 400, body, headers: json }));
  const { error } = await failTurn(createTestEngine(provider), { model: 'groq/m' });
  expect(error).toMatchObject({ retryable: false, data: { detail: 'credentials' } });
  expect(error.message).toBe('groq refused the configured credentials (400): No connected db.');
});
