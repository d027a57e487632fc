// `models.list`: the models that the caller can use, with the facts about each. Makes no call to a provider.
import { z } from 'zod';
import { providerOf } from '../config/values/model-id.ts';
import { modelFacts } from '../engines/models/model-facts.ts';
import type { ModelFacts, Price, Rates } from '../engines/models/shipped-facts.ts';
import { RpcError } from '../errors.ts';
import { defineMethod } from './define-method.ts';
import { SessionId } from './schemas/schemas.ts';

const RATES = {
  input: z.number(),
  output: z.number(),
  cached_input: z.number().optional().describe('Absent: as `input`'),
  cache_write: z.number().optional().describe('Absent: as `input`'),
};

const Model = z.object({
  id: z.string().describe('`provider/model`, the `model` of a prompt'),
  provider: z.string(),
  default: z.boolean().describe('The model of a prompt without `model`'),
  context_tokens: z.int().optional().describe('The whole window'),
  max_output_tokens: z.int().optional(),
  input: z.array(z.string()).optional().describe('Kinds of input: `text`, `image`, …'),
  reasoning: z.boolean().optional(),
  output_schema: z.boolean().optional().describe('The provider enforces a schema of the answer'),
  price: z
    .object({
      ...RATES,
      long: z
        .object({ above_tokens: z.int(), ...RATES })
        .optional()
        .describe('The prices where the input has more tokens'),
    })
    .optional()
    .describe('USD per million tokens'),
});

export const modelsList = defineMethod({
  name: 'models.list',
  summary: 'Lists the models that the caller can use, with limits, input and prices; unknown values are absent',
  scope: null,
  cost: 'read',
  params: z.strictObject({
    auth_session_id: SessionId.optional().describe('`session_id` of auth.login: the models that its account offers'),
  }),
  result: z.object({ models: z.array(Model) }),
  errors: ['not_found', 'unavailable'],
  example: {
    params: {},
    result: {
      models: [
        {
          id: 'anthropic/claude-sonnet-5',
          provider: 'anthropic',
          default: true,
          context_tokens: 1_000_000,
          price: { input: 2, output: 10, cached_input: 0.2, cache_write: 2.5 },
        },
      ],
    },
  },
  async handle({ auth_session_id: login }, { services, caller, signal }) {
    const { engines, config, clock } = services;
    const provider = login === undefined ? undefined : await services.logins.providerOf(caller.keyId, login, signal);
    if (login !== undefined && provider === undefined)
      throw new RpcError('not_found', {
        message: 'Not found: the login does not exist or has expired; call auth.login',
      });
    const { models: ids, defaultModel } = engines.usable(provider);
    const models = ids.map(async (id) => ({
      id,
      provider: providerOf(id),
      default: id === defaultModel,
      ...toWire(await modelFacts(id, config, clock.now())),
    }));
    return { models: await Promise.all(models) };
  },
});

function toWire({ contextTokens, maxOutputTokens, input, reasoning, outputSchema, price }: ModelFacts) {
  return {
    ...(contextTokens !== undefined && { context_tokens: contextTokens }),
    ...(maxOutputTokens !== undefined && { max_output_tokens: maxOutputTokens }),
    ...(input !== undefined && { input: [...input] }),
    ...(reasoning !== undefined && { reasoning }),
    ...(outputSchema !== undefined && { output_schema: outputSchema }),
    ...(price !== undefined && { price: toWirePrice(price) }),
  };
}

function toWirePrice({ long, ...rates }: Price) {
  return {
    ...toWireRates(rates),
    ...(long !== undefined && { long: { above_tokens: long.aboveTokens, ...toWireRates(long) } }),
  };
}

function toWireRates({ input, output, cachedInput, cacheWrite }: Rates) {
  return {
    input,
    output,
    ...(cachedInput !== undefined && { cached_input: cachedInput }),
    ...(cacheWrite !== undefined && { cache_write: cacheWrite }),
  };
}
