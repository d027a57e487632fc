// Chooses an engine by model name. If no engine can run the model, the error names the missing setting.
import { type Config, PROVIDER_URLS } from '../config/config.ts';
import { modelIdIssue, OFFLINE_MODEL, OFFLINE_MODELS, providerOf } from '../config/values/model-id.ts';
import { RpcError } from '../errors.ts';
import { joinUrl, toBaseUrl } from '../net/base-url.ts';
import { type CodexDeps, createLazyCodex } from './codex/lazy.ts';
import { createDirectEngine, type DirectOptions } from './direct/direct.ts';
import type { Credential, Engines } from './engine.ts';
import { usableModels } from './models/usable-models.ts';
import { createOfflineEngine } from './offline.ts';
import { isProviderName, PROVIDER_NAMES, PROVIDERS } from './provider-names.ts';

/** Per kind of login: the providers whose models it can use, and the default model of a prompt. */
const LOGINS: Readonly<Record<Credential['provider'], { providers: readonly string[]; defaultModel: string }>> = {
  anthropic: { providers: ['anthropic'], defaultModel: PROVIDERS.anthropic.defaultModel },
  openai: { providers: ['openai', 'codex'], defaultModel: PROVIDERS.openai.defaultModel },
  google: { providers: ['google'], defaultModel: PROVIDERS.google.defaultModel },
  // ChatGPT's access tokens work with Codex only.
  chatgpt: { providers: ['codex'], defaultModel: PROVIDERS.openai.defaultModel.replace('openai/', 'codex/') },
};

export interface EnginesOptions {
  readonly direct?: DirectOptions;
  /** Dependencies of Codex, in processes that may start processes; absent: `codex/...` is refused. */
  readonly codex?: CodexDeps;
}

/** Default model of `ENGINE=codex`. */
const CODEX_MODEL = PROVIDERS.openai.defaultModel.replace('openai/', 'codex/');

/**
 * Engines of a configuration. Default model: `config.model`, else that of the first provider with credentials
 * (Anthropic, OpenAI, Google), else `offline/echo`. A provider is imported by its first call or by `warm()`.
 */
export function createEngines(
  config: Pick<Config, 'model' | 'providers'> &
    Partial<Pick<Config, 'providerUrls' | 'modelProviders' | 'models' | 'companion' | 'engine' | 'proxy'>>,
  options: EnginesOptions = {},
): Engines {
  const { modelProviders = new Map<string, never>() } = config;
  const offline = createOfflineEngine();
  const direct = createDirectEngine(config.providers, {
    ...(config.providerUrls && { providerUrls: config.providerUrls }),
    proxy: config.proxy,
    modelProviders,
    ...options.direct,
  });
  const { openai, chatgpt } = config.providerUrls ?? PROVIDER_URLS;
  const codex = createLazyCodex(
    {
      apiKey: config.providers.openai?.apiKey,
      proxy: config.proxy,
      baseUrls: {
        gateway: toBaseUrl(config.providers.openai?.baseUrl ?? openai),
        chatgpt: joinUrl(chatgpt, '/codex'),
      },
    },
    options.codex,
  );
  const first = PROVIDER_NAMES.find((name) => config.providers[name] !== undefined);
  const directModel = config.model ?? (first === undefined ? OFFLINE_MODEL : PROVIDERS[first].defaultModel);
  const defaultModel =
    config.engine === 'codex' ? (config.model?.replace(/^openai\//, 'codex/') ?? CODEX_MODEL) : directModel;
  const resolve: Engines['resolve'] = (requested, credential) => {
    const login = credential && LOGINS[credential.provider];
    const model = requested ?? login?.defaultModel ?? defaultModel;
    if (OFFLINE_MODELS.has(model) && login === undefined) return { engine: offline, model };
    const issue = modelIdIssue(model, modelProviders.keys());
    if (issue !== undefined) throw refuse(issue);
    const provider = providerOf(model);
    if (login !== undefined && !login.providers.includes(provider)) {
      throw refuse(`a login with ${credential?.provider} is for models of ${login.providers.join(' and ')}`);
    }
    if (provider === 'codex') {
      if (login === undefined && config.providers.openai === undefined)
        throw refuse(`Codex has no credentials here: set ${PROVIDERS.openai.variable}`);
      return { engine: codex.engine(), model };
    }
    if (modelProviders.has(provider)) return { engine: direct, model };
    if (!isProviderName(provider)) throw refuse(`${provider} has no engine here`);
    if (login === undefined && config.providers[provider] === undefined) {
      throw refuse(`${PROVIDERS[provider].label} has no credentials here: set ${PROVIDERS[provider].variable}`);
    }
    return { engine: direct, model };
  };
  return {
    defaultModel,
    resolve,
    usable(login) {
      const { openai: hasKey } = config.providers;
      const hasForwardedCodex = config.companion?.url !== undefined && hasKey !== undefined;
      const first = login === undefined ? defaultModel : LOGINS[login].defaultModel;
      const { models } = config;
      const deps = { defaultModel: first, codexModel: CODEX_MODEL, models, resolve, hasForwardedCodex };
      return { models: usableModels(deps, login), defaultModel: first };
    },
    close: () => codex.close(),
    warm() {
      const provider = providerOf(defaultModel);
      if (provider === 'codex') void codex.warm();
      const isConfigured = isProviderName(provider) && config.providers[provider] !== undefined;
      if (isConfigured || modelProviders.has(provider)) direct.warm(provider);
    },
  };
}

function refuse(message: string): RpcError {
  return new RpcError('invalid_params', { data: { issues: [{ path: 'model', message }] } });
}
