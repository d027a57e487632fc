// One rule for model ids holds everywhere: what the configuration accepts at start is what a prompt may name, and
// nothing else.
import { expect, it } from 'vitest';
import { loadConfig } from '../../../shared/config/load-config.ts';
import { createEngines } from '../../../shared/engines/engines.ts';

const KEYS = { ANTHROPIC_API_KEY: 'k', OPENAI_API_KEY: 'k' };
const engines = createEngines({
  model: undefined,
  providers: { anthropic: { apiKey: 'k' }, openai: { apiKey: 'k' }, google: { project: 'p', location: 'l' } },
});

it.each([
  'openai/@cf/some/model',
  'openai/@hf/thebloke/zephyr-7b-beta-awq',
  'openai/meta-llama/Llama-3.3-70B-Instruct:free',
  'openai/qwen2.5-7b@q4_k_m',
  'openai/ft:gpt-4o:org::abc',
  'openai/_internal/model+lora',
  'google/endpoints/123',
  'anthropic/claude@20250514',
  'offline/echo',
])('the model id %s is accepted at start and at use', (model) => {
  expect(loadConfig({ ...KEYS, MODEL: model }).model).toBe(model);
  expect(engines.resolve(model).model).toBe(model);
});

it.each([
  ['openai/../x', 'must be provider/model'],
  ['openai/a/../b', 'must be provider/model'],
  ['openai//a', 'must be provider/model'],
  ['openai/a?b=c', 'must be provider/model'],
  ['openai/a#b', 'must be provider/model'],
  ['openai/%2e%2e', 'must be provider/model'],
  ['openai/a b', 'must be provider/model'],
  ['openai/', 'must be provider/model'],
  ['gpt-4o', 'must be provider/model'],
  ['OpenAI/gpt-4o', 'must be provider/model'],
  ['openai/ü', 'must be provider/model'],
  [`openai/${'x'.repeat(128)}`, 'must be at most 128 characters'],
  ['nobody/nothing', 'unknown model nobody/nothing; known: '],
  ['offline/other', 'unknown model offline/other; known: '],
])('the model id %s is refused at start and at use, with the same message', (model, message) => {
  expect(() => loadConfig({ MODEL: model })).toThrow(`MODEL: ${message}`);
  expect(() => engines.resolve(model)).toThrow(
    expect.objectContaining({ data: { issues: [{ path: 'model', message: expect.stringContaining(message) }] } }),
  );
});
