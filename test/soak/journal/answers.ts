// Checks the answer of a prompt beside its text: the model that it names, its usage, its JSON, its warnings; and the
// error of a prompt with fallbacks.
import { isDeepStrictEqual } from 'node:util';
import { isObject } from '../../../shared/json/json-object.ts';
import { countTokens } from '../../support/fakes/model-provider/model-provider-wire.ts';
import type { Journal } from './journal.ts';
import type { Json } from './journal-records.ts';
import type { Prompt } from './prompts.ts';
import type { ProviderLog } from './provider-log.ts';

export function checkAnswer({ checks }: Journal, log: ProviderLog, prompt: Prompt, result: Json): void {
  const calls = log.callsOf(prompt.nonce).filter(({ fault }) => fault === undefined);
  const models = calls.map(({ model }) => model);
  const [, model = ''] = String(result.model).split('/');
  const detail = (what: string) => (): string => `${prompt.nonce}: ${what}`;
  checks.check('fallbacks', models.includes(model), detail(`names ${model}, answered by ${models.join()}`));
  const usage = isObject(result.usage) ? result.usage : {};
  const isBilled = calls.some(
    (call) =>
      call.model === model &&
      usage.input_tokens === call.inputTokens &&
      usage.output_tokens === countTokens(prompt.expected),
  );
  checks.check('usage', isBilled, detail(`${JSON.stringify(usage)}, billed ${JSON.stringify(calls)}`));
  if (prompt.params.output_schema !== undefined) {
    const isParsed = isDeepStrictEqual(result.output, JSON.parse(prompt.expected));
    checks.check('answers', isParsed, detail(`output ${JSON.stringify(result.output)}`));
  }
  // Only Google's models take a seed, and reasoning models of OpenAI no temperature.
  if (prompt.params.settings !== undefined) {
    const warnings = JSON.stringify(result.warnings ?? []);
    checks.check('answers', warnings.includes('"seed"'), detail(`warnings ${warnings}`));
  }
}

/**
 * A provider's error before the answer has begun leads to the answer of a fallback. A turn that takes too long shows
 * nothing: a model that hangs takes its part of the time.
 */
export function checkFailure({ checks }: Journal, log: ProviderLog, prompt: Prompt, error: Json): void {
  const data = isObject(error.data) ? error.data : {};
  if (prompt.params.fallbacks === undefined || data.reason !== 'upstream_error') return;
  const calls = log.callsOf(prompt.nonce);
  const isBegun = calls.some((call) => call.isBegun);
  const detail = (): string => `${prompt.nonce}: ${JSON.stringify(error).slice(0, 200)} after ${JSON.stringify(calls)}`;
  checks.check('fallbacks', isBegun, detail);
}
