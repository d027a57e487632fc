// MODEL_PROVIDERS is read at start, and every mistake is one plain line without the value of a secret.
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { loadConfig } from '../../../shared/config/load-config.ts';
import { ConfigError } from '../../../shared/config/read-variables.ts';

function problemsOf(env: Readonly<Record<string, string>>): readonly string[] {
  try {
    loadConfig(env);
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
  return [];
}

const GOOD = { base_url: 'https://api.groq.com/openai/v1', api_key: 'gsk_secret', wire: 'chat' };
const read = (document: unknown) => problemsOf({ MODEL_PROVIDERS: JSON.stringify(document) });

it('MODEL_PROVIDERS is read inline or from a file, and its models may be the default and have facts', () => {
  const document = JSON.stringify({
    groq: GOOD,
    'azure-2': {
      base_url: 'https://a.example/openai/v1?api-version=x',
      wire: 'responses',
      headers: { 'api-key': 'k' },
    },
  });
  const file = join(mkdtempSync(join(tmpdir(), 'providers-')), 'providers.json');
  writeFileSync(file, `\ufeff${document}\r\n`);
  for (const MODEL_PROVIDERS of [document, `@${file}`]) {
    const config = loadConfig({
      MODEL_PROVIDERS,
      MODEL: 'groq/llama',
      MODELS: '{"azure-2/gpt": {"context_tokens": 9}}',
    });
    expect(Object.fromEntries(config.modelProviders)).toEqual({
      groq: { baseUrl: GOOD.base_url, apiKey: 'gsk_secret', wire: 'chat', headers: {} },
      'azure-2': {
        baseUrl: 'https://a.example/openai/v1?api-version=x',
        wire: 'responses',
        headers: { 'api-key': 'k' },
      },
    });
    expect([config.model, [...config.models.keys()]]).toEqual(['groq/llama', ['azure-2/gpt']]);
  }
  expect(loadConfig({}).modelProviders.size).toBe(0);
});

it.each<readonly [string, unknown, readonly string[]]>([
  [
    'a name of the gateway',
    { openai: GOOD },
    ['openai: is the name of a provider of the gateway itself; choose another'],
  ],
  ['the name of the offline engine', { offline: GOOD }, ['offline: is the name of a provider of the gateway itself']],
  ['a name that no model id can begin with', { 'My Groq': GOOD }, ['"My Groq": a name has lower-case letters']],
  ['no address', { groq: { wire: 'chat' } }, ['groq.base_url: is required']],
  ['no wire', { groq: { base_url: GOOD.base_url } }, ['groq.wire: is required: "chat" or "responses"']],
  ['another wire', { groq: { ...GOOD, wire: 'completions' } }, ['groq.wire: must be "chat" or "responses"']],
  [
    'an address that is none',
    { groq: { ...GOOD, base_url: 'api.groq.com' } },
    ['groq.base_url: must be an http(s) URL'],
  ],
  [
    'credentials in the address',
    { groq: { ...GOOD, base_url: 'https://me:hunter22@api.groq.com/v1' } },
    ['groq.base_url: must be a URL without user and password'],
  ],
  [
    'an unknown field',
    { groq: { ...GOOD, url: 'x' } },
    ['groq: "url" not known; an entry has base_url, api_key, wire, headers'],
  ],
  ['a key of two lines', { groq: { ...GOOD, api_key: 'gsk\nsecret' } }, ['groq.api_key: must be visible ASCII']],
  ['a key that is no text', { groq: { ...GOOD, api_key: 5 } }, ['groq.api_key: must be a text']],
  ['an entry that is none', { groq: 'https://x.example' }, ['groq: must be an object']],
  [
    'a header of two lines',
    { groq: { ...GOOD, headers: { a: 'b\r\nc: d' } } },
    ['groq.headers.a: must be visible ASCII'],
  ],
  ['a header that is none', { groq: { ...GOOD, headers: { 'a b': 'c' } } }, ['groq.headers: a name is not valid: a…']],
  [
    'a header with its value in its name, which is a credential',
    { groq: { ...GOOD, headers: { 'Authorization: Bearer hunter22': 'x' } } },
    ['groq.headers: a name is not valid: Authorization…'],
  ],
  [
    'the same with an empty value',
    { groq: { ...GOOD, headers: { 'Authorization: Bearer hunter22': '' } } },
    ['groq.headers.Authorization…: must be'],
  ],
  [
    'a header of the exchange',
    { groq: { ...GOOD, headers: { Host: 'x' } } },
    ['groq.headers: Host is set by the gateway'],
  ],
  ['a header twice', { groq: { ...GOOD, headers: { a: '1', A: '2' } } }, ['groq.headers: A is there twice']],
  [
    'two credentials',
    { groq: { ...GOOD, headers: { Authorization: 'Basic x' } } },
    ['groq.headers: Authorization is set from api_key; remove one of the two'],
  ],
  [
    'several mistakes',
    { a: { wire: 'x' }, b: GOOD, codex: GOOD },
    ['a.base_url: is required', 'a.wire: must be', 'codex: is the name'],
  ],
  ['a list', [], ['must be a JSON object; the form is {"name": {"base_url"']],
])('a mistake in MODEL_PROVIDERS is reported in one line: %s', (_name, document, lines) => {
  const problems = read(document);
  expect(problems).toHaveLength(lines.length);
  for (const [index, line] of lines.entries()) expect(problems[index]).toMatch(`MODEL_PROVIDERS: ${line}`);
  expect(problems.join()).not.toMatch(/gsk|hunter22/);
});

it('a value that is no JSON is not quoted, and models of the missing providers are not reported as well', () => {
  const env = { MODEL_PROVIDERS: '{"groq": {"api_key": "gsk_secret"', MODEL: 'groq/llama' };
  expect(problemsOf(env)).toEqual([expect.stringMatching(/^MODEL_PROVIDERS: is not JSON; the form is /)]);
  const wrong = { MODEL_PROVIDERS: '{"groq": {}}', MODEL: 'groq/x', MODELS: '{"groq/x": {}}' };
  expect(problemsOf(wrong).every((line) => line.startsWith('MODEL_PROVIDERS: groq'))).toBe(true);
});

it('a model of a provider that is not configured is refused at start, and the known ones are named', () => {
  const env = { MODEL_PROVIDERS: JSON.stringify({ groq: GOOD }), MODEL: 'grok/x', MODELS: '{"other/y": {}}' };
  expect(problemsOf(env)).toEqual([
    expect.stringMatching(/^MODEL: unknown model grok\/x; known: .*groq\/…/),
    expect.stringMatching(/^MODELS: "other\/y": unknown model other\/y; known: /),
  ]);
});
