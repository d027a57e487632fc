// The settings of a turn are sent, or left out with a warning, in every wire format through the real SDK providers.
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { createOfflineEngine } from '../../../../../shared/engines/offline.ts';
import type { TurnSettings } from '../../../../../shared/messages/turn-settings.ts';
import { type ModelProvider, startModelProvider } from '../../../../support/fakes/model-provider/model-provider.ts';
import { CASES, createTestEngine, failTurn, runTurn } from '../../../../support/fixtures/turns/engines.ts';

let provider: ModelProvider;
beforeAll(async () => {
  provider = await startModelProvider();
});
afterEach(() => provider.behave());
afterAll(() => provider.close());

const SAMPLING = { temperature: 0.5, max_output_tokens: 2_000, stop: ['END', '###'], seed: 7 } as const;

interface Row {
  readonly model: string;
  readonly settings: TurnSettings;
  /** Members of the request's body; undefined: absent. */
  readonly sent: Readonly<Record<string, unknown>>;
  readonly left: readonly string[];
}

const ROWS: readonly Row[] = [
  {
    model: 'anthropic/claude-sonnet-4-5',
    settings: SAMPLING,
    sent: { temperature: 0.5, max_tokens: 2_000, stop_sequences: ['END', '###'], seed: undefined },
    left: ['seed'],
  },
  {
    model: 'anthropic/claude-sonnet-4-5',
    settings: { temperature: 1.5, top_p: 0.9 },
    sent: { temperature: 1, top_p: undefined, max_tokens: 32_000 },
    left: ['temperature', 'top_p'],
  },
  {
    model: 'anthropic/claude-sonnet-4-5',
    settings: { reasoning: 'low', temperature: 0.5 },
    sent: { thinking: { type: 'enabled', budget_tokens: expect.any(Number) }, temperature: undefined },
    left: ['temperature'],
  },
  {
    model: 'anthropic/claude-sonnet-4-5',
    settings: { reasoning: 'off' },
    sent: { thinking: { type: 'disabled' } },
    left: [],
  },
  {
    model: 'openai/gpt-5',
    settings: { ...SAMPLING, top_p: 0.9 },
    sent: { max_output_tokens: 2_000, temperature: undefined, top_p: undefined, stop: undefined, seed: undefined },
    left: ['temperature', 'top_p', 'stop', 'seed'],
  },
  {
    model: 'openai/gpt-4o',
    settings: { temperature: 0.5, top_p: 0.9 },
    sent: { temperature: 0.5, top_p: 0.9 },
    left: [],
  },
  {
    model: 'openai/gpt-5',
    settings: { reasoning: 'high' },
    sent: { reasoning: expect.objectContaining({ effort: 'high' }) },
    left: [],
  },
  {
    model: 'openai/gpt-4o',
    settings: { reasoning: 'high' },
    sent: { reasoning: undefined },
    left: ['reasoning'],
  },
  {
    model: 'google/gemini-2.5-flash',
    settings: { ...SAMPLING, top_p: 0.9, reasoning: 'off' },
    sent: {
      generationConfig: expect.objectContaining({
        ...{ temperature: 0.5, topP: 0.9, maxOutputTokens: 2_000, stopSequences: ['END', '###'], seed: 7 },
        thinkingConfig: expect.objectContaining({ thinkingBudget: 0 }),
      }),
    },
    left: [],
  },
  {
    model: 'groq/llama',
    settings: { ...SAMPLING, top_p: 0.9, reasoning: 'low' },
    sent: {
      ...{ temperature: 0.5, top_p: 0.9, max_tokens: 2_000, stop: ['END', '###'], seed: 7 },
      reasoning_effort: 'low',
    },
    left: [],
  },
  {
    model: 'my-server/qwen3',
    settings: { ...SAMPLING, top_p: 0.9 },
    sent: { temperature: 0.5, top_p: 0.9, max_output_tokens: 2_000, stop: undefined, seed: undefined },
    left: ['stop', 'seed'],
  },
  {
    model: 'my-server/qwen3',
    settings: { reasoning: 'low' },
    sent: { reasoning: expect.objectContaining({ effort: 'low' }) },
    left: [],
  },
];

describe('the settings of a turn', () => {
  it.each(ROWS)(
    'the settings of a turn are sent, or left out with a warning: $model $settings',
    async ({ model, settings, sent, left }) => {
      const { outcome } = await runTurn(createTestEngine(provider), { model, settings });
      const body: object = Object(provider.requests.at(-1)?.body);
      const found = Object.fromEntries(Object.keys(sent).map((name) => [name, Reflect.get(body, name)]));
      expect(found).toEqual(sent);
      const { warnings = [] } = outcome;
      expect(warnings.map(({ setting }) => setting).sort()).toEqual([...left].sort());
      for (const { message } of warnings) expect(message).toMatch(/\w+ \w+/);
    },
  );

  it.each(CASES)(
    'the settings of a turn that $provider itself refuses are left out of the next call',
    async ({ model }) => {
      provider.behave(({ body }) =>
        /"max_(output_)?tokens":3,|"maxOutputTokens":3\b/.test(`${JSON.stringify(body)},`)
          ? { status: 400, message: "Unsupported parameter: 'max_output_tokens' (maxOutputTokens, max_tokens)" }
          : { text: 'fine' },
      );
      const from = provider.calls;
      const { outcome } = await runTurn(createTestEngine(provider), { model, settings: { max_output_tokens: 3 } });
      expect(outcome).toMatchObject({
        content: 'fine',
        warnings: [{ setting: 'max_output_tokens', message: expect.stringContaining('Unsupported parameter') }],
      });
      expect(provider.calls - from).toBe(2);
    },
  );

  it.each([
    ['max_output_tokens', 'max_tokens: 90000 > 64000, which is the maximum allowed number of output tokens'],
    ['max_output_tokens', 'max_tokens is too large: 90000. This model supports at most 16384 completion tokens'],
    ['max_output_tokens', 'it has a maxOutputTokens value of 90000 but the supported range is from 1 to 8193'],
    ['max_output_tokens', '`max_tokens` must be less than or equal to `32768`'],
    ['temperature', '`temperature` is deprecated for this model.'],
    ['temperature', 'temperature: range: 0..1'],
  ] as const)('the settings of a turn are left out where a value of %s is refused: %s', async (setting, message) => {
    provider.behave(({ body }) =>
      /temperature|"max_tokens":90000\b/.test(JSON.stringify(body)) ? { status: 400, message } : { text: 'fine' },
    );
    const settings = { [setting]: setting === 'temperature' ? 0.5 : 90_000 };
    const { outcome } = await runTurn(createTestEngine(provider), { model: 'groq/llama', settings });
    expect(outcome).toMatchObject({
      content: 'fine',
      warnings: [{ setting, message: expect.stringContaining(message) }],
    });
  });

  // The SDK requests the signed reasoning of each model of OpenAI that reasons.
  it.each(CASES.filter(({ provider }) => provider !== 'openai'))(
    'the settings of a turn that $provider refuses leave nothing that belongs to them: reasoning',
    async ({ model }) => {
      const REASONING = /thinking|reasoning/i;
      provider.behave(({ body }) =>
        REASONING.test(JSON.stringify(body))
          ? { status: 400, message: 'thinking (reasoning) is not supported by this model' }
          : { text: 'fine' },
      );
      const { outcome } = await runTurn(createTestEngine(provider), { model, settings: { reasoning: 'low' } });
      expect(outcome).toMatchObject({ content: 'fine', warnings: [{ setting: 'reasoning' }] });
    },
  );

  it.each(CASES)('the settings of a turn are not blamed for another refusal of $provider', async ({ model }) => {
    provider.behave(() => ({ status: 400, message: 'messages: the text is not allowed' }));
    const from = provider.calls;
    const { error } = await failTurn(createTestEngine(provider), { model, settings: { max_output_tokens: 3 } });
    expect(error.reason).toBe('upstream_error');
    expect(provider.calls - from).toBe(1);
  });

  it('the settings of a turn are all named as left out by the offline model, and none where none was given', async () => {
    const settings = { ...SAMPLING, top_p: 1, reasoning: 'low' } as const;
    const { outcome } = await runTurn(createOfflineEngine(), { model: 'offline/echo', settings });
    const names = ['temperature', 'top_p', 'max_output_tokens', 'stop', 'seed', 'reasoning'];
    expect(outcome.warnings?.map(({ setting }) => setting)).toEqual(names);
    const plain = await runTurn(createOfflineEngine(), { model: 'offline/echo' });
    expect(plain.outcome).not.toHaveProperty('warnings');
  });
});

describe('the schema of an answer', () => {
  const outputSchema = { type: 'object', properties: { a: { type: 'integer' } } } as const;
  const strict = { ...outputSchema, required: ['a'], additionalProperties: false } as const;

  it.each([
    ['anthropic/claude-sonnet-4-5', /"output_config":\{"format":\{"type":"json_schema","schema":\{"type":"object"/],
    [
      'openai/gpt-5',
      /"text":\{"format":\{"type":"json_schema","strict":true,"name":"output","schema":\{"type":"object"/,
    ],
    ['google/gemini-2.5-flash', /"responseMimeType":"application\/json".*"response(?:Json)?Schema":\{/],
    [
      'groq/llama',
      /"response_format":\{"type":"json_schema","json_schema":\{"schema":\{"type":"object".*"strict":true,"name":"output"/,
    ],
    ['my-server/gpt-oss', /"text":\{"format":\{"type":"json_schema","strict":true,"name":"output"/],
  ])('the schema of an answer is sent in the form of the provider: %s', async (model, form) => {
    provider.behave(() => ({ text: '{"a":1}' }));
    const { outcome } = await runTurn(createTestEngine(provider), { model, outputSchema: strict });
    expect(JSON.stringify(provider.requests.at(-1)?.body)).toMatch(form);
    expect(outcome.content).toBe('{"a":1}');
    expect(outcome).not.toHaveProperty('warnings');
  });

  it.each(['openai/gpt-5', 'groq/llama', 'my-server/gpt-oss'])(
    'the schema of an answer is not sent as strict where the rules of OpenAI for strict ones do not allow it: %s',
    async (model) => {
      await runTurn(createTestEngine(provider), { model, outputSchema });
      expect(JSON.stringify(provider.requests.at(-1)?.body)).toContain('"strict":false');
    },
  );

  it.each(CASES)('the schema of an answer is an instruction where $provider refuses the format', async ({ model }) => {
    provider.behave(({ body }) =>
      /json_schema|responseMimeType/.test(JSON.stringify(body))
        ? { status: 400, message: "Unsupported: response_format of type 'json_schema'" }
        : { text: '{"a":1}' },
    );
    const turn = { model, outputSchema: strict, instructions: 'Be brief.' };
    const { outcome } = await runTurn(createTestEngine(provider), turn);
    expect(outcome.warnings).toEqual([
      { setting: 'output_schema', message: expect.stringMatching(/Unsupported.*sent as an instruction instead$/) },
    ]);
    expect(JSON.stringify(provider.requests.at(-1)?.body)).toMatch(/Be brief\.\\n\\nAnswer only with JSON/);
  });

  // Keywords outside of the constrained modes, references, and a root that is a condition.
  const whole = {
    type: 'object',
    properties: { kind: { enum: ['a', 'b'] }, at: { $ref: '#/$defs/at' }, 'x-1': true },
    required: ['kind'],
    if: { properties: { kind: { const: 'a' } } },
    ...Object.fromEntries([['then', { required: ['at'] }]]),
    else: { not: { required: ['at'] } },
    dependentRequired: { at: ['kind'] },
    dependentSchemas: { at: { minProperties: 2 } },
    patternProperties: { '^x-': { type: 'integer' } },
    additionalProperties: false,
    $defs: { at: { allOf: [{ type: 'string' }, { maxLength: 9 }] } },
  };
  const KEYWORDS = ['"if"', '"then"', '"else"', '"not"', '"dependentRequired"', '"dependentSchemas"', '"allOf"'];

  it.each(CASES)(
    'the schema of an answer reaches $provider with all of its keywords, or with a warning',
    async ({ model }) => {
      provider.behave(() => ({ text: '{"kind":"b"}' }));
      const { outcome } = await runTurn(createTestEngine(provider), { model, outputSchema: whole });
      const body = JSON.stringify(provider.requests.at(-1)?.body).replaceAll('\\"', '"');
      const missing = [...KEYWORDS, '"patternProperties"'].filter((keyword) => !body.includes(keyword));
      expect(missing).toEqual([]);
      expect(body).not.toContain('"strict":true');
      expect(outcome).not.toHaveProperty('warnings');
    },
  );

  it.each(CASES)(
    'a schema of an answer is sent without the names of properties that $provider refuses',
    async ({ model }) => {
      provider.behave(() => ({ text: '{}' }));
      const outputSchema = { type: 'object', propertyNames: { type: 'string', pattern: '^(?=a)' } };
      const { outcome } = await runTurn(createTestEngine(provider), { model, outputSchema });
      const body = JSON.stringify(provider.requests.at(-1)?.body);
      const setting = { setting: 'output_schema', message: expect.stringMatching(/propertyNames/) };
      expect({ isSent: body.includes('propertyNames'), warnings: outcome.warnings }).toEqual(
        body.includes('propertyNames') ? { isSent: true } : { isSent: false, warnings: [setting] },
      );
    },
  );
});
