// The engine that calls a provider's API itself, at the provider level of the AI SDK: one streamed call per turn, or
// one per round where the model uses tools, each retried at most twice before its first token (run-turn.ts).
import { type Clock, systemClock } from '../../clock.ts';
import type { Config } from '../../config/config.ts';
import { providerOf } from '../../config/values/model-id.ts';
import { RpcError } from '../../errors.ts';
import { splitQuery } from '../../net/base-url.ts';
import type { Engine } from '../engine.ts';
import { wireOf } from '../provider-names.ts';
import type { Deadlines } from './providers/call-guard.ts';
import { createGuardedFetch } from './providers/provider-fetch.ts';
import { createModels, type GoogleOptions } from './providers/providers.ts';
import { createAnthropicRepair } from './repair/repair-anthropic.ts';
import { createChatRepair } from './repair/repair-chat.ts';
import { createGoogleRepair } from './repair/repair-google.ts';
import { createOpenAiRepair } from './repair/repair-openai.ts';
import { type EngineParts, runTurn } from './run-turn.ts';

const REPAIRS = {
  anthropic: createAnthropicRepair,
  responses: createOpenAiRepair,
  google: createGoogleRepair,
  chat: createChatRepair,
};
/** Names of the members of an address whose values are credentials. */
const SECRET_NAME = /key|token|secret|sig|code|password/i;

export interface DirectOptions {
  /** Default: 60 s to the first byte, 120 s of silence, 10 min in all. */
  readonly deadlines?: Partial<Deadlines>;
  /** Upper bound of the wait before the first retry; doubles. Default 500 ms. */
  readonly retryMs?: number;
  /** Bound of an answer and its reasoning, UTF-8. Default 4 MiB. */
  readonly answerBytesMax?: number;
  readonly google?: GoogleOptions;
  /** Base URLs for calls with the credentials of a login. Default: the providers' public ones. */
  readonly providerUrls?: Config['providerUrls'];
  readonly proxy?: Config['proxy'];
  readonly modelProviders?: Config['modelProviders'];
  readonly clock?: Clock;
  /** 0 <= x < 1, for the jitter. */
  readonly random?: () => number;
}

const DEADLINES: Deadlines = { firstByteMs: 60_000, idleMs: 120_000, totalMs: 600_000 };

/** Serves the models of the configured providers and of `options.modelProviders`. Errors: see Engine. */
export function createDirectEngine(
  providers: Config['providers'],
  options: DirectOptions = {},
): Engine & { warm(provider: string): void } {
  const models = createModels(providers, {
    fetch: (wire) => createGuardedFetch(REPAIRS[wire], options.proxy),
    ...(options.google === undefined ? {} : { google: options.google }),
    ...(options.providerUrls && { providerUrls: options.providerUrls }),
    ...(options.modelProviders && { modelProviders: options.modelProviders }),
  });
  const secrets = secretsOf(providers, options.modelProviders);
  const parts: EngineParts = {
    models,
    split: (model) => split(model, options.modelProviders),
    secrets,
    deadlines: { ...DEADLINES, ...options.deadlines },
    answerBytesMax: options.answerBytesMax ?? 4 << 20,
    backoffMs: options.retryMs ?? 500,
    clock: options.clock ?? systemClock,
    random: options.random ?? Math.random,
  };

  return {
    run: (turn, runOptions) => runTurn(parts, turn, runOptions),
    prepare: (model) => models.openAhead(providerOf(model)),
    warm: (provider) => void models.get(provider, 'warm').catch(() => undefined),
  };
}

/** All credentials of the deployment: a server may know that of another provider, where both are one company's. */
function secretsOf(providers: Config['providers'], modelProviders: Config['modelProviders'] = new Map()): string[] {
  const accounts = [providers.openai, providers.anthropic, ...modelProviders.values()];
  const found = accounts.flatMap((account) => {
    const { apiKey = '', baseUrl = '' } = account ?? {};
    // Of `Bearer x`, a provider may repeat only the credential.
    const headers = account !== undefined && 'headers' in account ? Object.values(account.headers) : [];
    const members = [...new URLSearchParams(splitQuery(baseUrl).query)];
    const inQuery = members.flatMap(([name, value]) => (SECRET_NAME.test(name) ? [value] : []));
    return [apiKey, ...headers.flatMap((value) => [value, ...value.split(' ')]), ...inQuery];
  });
  return [...new Set(found)];
}

function split(model: string, modelProviders: Config['modelProviders'] | undefined) {
  const slash = model.indexOf('/');
  const provider = model.slice(0, slash);
  const wire = slash > 0 ? wireOf(provider, modelProviders) : undefined;
  if (wire !== undefined) return { provider, modelId: model.slice(slash + 1), wire };
  throw new RpcError('invalid_params', { data: { issues: [{ path: 'model', message: 'unknown provider' }] } });
}
