// Chooses an engine by model name, and says what is missing when there is none. Owns no engine's details.
import type { Config } from '../config.ts';
import { RpcError } from '../errors.ts';
import { createDirectEngine, type DirectOptions } from './direct.ts';
import type { Engines } from './engine.ts';
import { createOfflineEngine, OFFLINE_MODEL } from './offline.ts';
import { isProviderName, PROVIDER_NAMES, PROVIDERS } from './providers.ts';

const MODEL_CHARS_MAX = 128;
/** The part after the provider may hold slashes (`endpoints/123`), but not be a path that climbs. */
const MODEL_PATTERN = /^[a-z][a-z0-9-]*\/[A-Za-z0-9][A-Za-z0-9._:@-]*(?:\/[A-Za-z0-9][A-Za-z0-9._:@-]*)*$/;

export interface EnginesOptions {
  readonly direct?: DirectOptions;
}

/**
 * Engines of a configuration. Default model: `config.model`, else that of the first provider with credentials (Anthropic, OpenAI,
 * Google), else `offline/echo`. Constructing costs nothing: a provider is imported by its first call, or by `warm()`.
 */
export function createEngines(config: Pick<Config, 'model' | 'providers'>, options: EnginesOptions = {}): Engines {
  const offline = createOfflineEngine();
  const direct = createDirectEngine(config.providers, options.direct);
  const first = PROVIDER_NAMES.find((name) => config.providers[name] !== undefined);
  const defaultModel = config.model ?? (first === undefined ? OFFLINE_MODEL : PROVIDERS[first].defaultModel);
  return {
    defaultModel,
    resolve(model = defaultModel) {
      if (model === OFFLINE_MODEL) return { engine: offline, model };
      if (model.length > MODEL_CHARS_MAX) throw refuse(`must be at most ${MODEL_CHARS_MAX} characters`);
      if (!MODEL_PATTERN.test(model))
        throw refuse(`must be provider/model, for example ${PROVIDERS.anthropic.defaultModel}`);
      const provider = model.slice(0, model.indexOf('/'));
      if (!isProviderName(provider)) {
        throw refuse(`unknown provider ${provider}; known: ${PROVIDER_NAMES.join(', ')}, and ${OFFLINE_MODEL}`);
      }
      if (config.providers[provider] === undefined) {
        throw refuse(`${PROVIDERS[provider].label} has no credentials here: set ${PROVIDERS[provider].variable}`);
      }
      return { engine: direct, model };
    },
    warm() {
      const provider = defaultModel.slice(0, defaultModel.indexOf('/'));
      if (isProviderName(provider) && config.providers[provider] !== undefined) direct.warm(provider);
    },
  };
}

function refuse(message: string): RpcError {
  return new RpcError('invalid_params', { data: { issues: [{ path: 'model', message }] } });
}
