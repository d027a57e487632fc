// The models that a deployment names and can call: the defaults of its providers, the operator's models (variable
// MODELS) and the offline ones. Other models of a provider can be called as well, but are not listed.
import type { Config } from '../../config/config.ts';
import { OFFLINE_MODELS } from '../../config/values/model-id.ts';
import { RpcError } from '../../errors.ts';
import type { Credential, Engines } from '../engine.ts';
import { PROVIDER_NAMES, PROVIDERS } from '../provider-names.ts';

export interface UsableDeps {
  readonly defaultModel: string;
  /** The default model of Codex. */
  readonly codexModel: string;
  readonly models: Config['models'] | undefined;
  readonly resolve: Engines['resolve'];
  /** Codex runs on a companion, with the deployment's own credentials. */
  readonly hasForwardedCodex: boolean;
}

/** `login`: with a login of this provider. Makes no call. */
export function usableModels(deps: UsableDeps, login: Credential['provider'] | undefined): readonly string[] {
  const { defaultModel, codexModel, models } = deps;
  const credential = login && { provider: login, token: () => '' };
  const defaults = PROVIDER_NAMES.map((name) => PROVIDERS[name].defaultModel);
  const known = new Set([defaultModel, ...defaults, codexModel, ...(models?.keys() ?? []), ...OFFLINE_MODELS]);
  return [...known].filter((model) => canCall(deps, model, credential));
}

function canCall(deps: UsableDeps, model: string, credential: Credential | undefined): boolean {
  if (deps.hasForwardedCodex && credential === undefined && model.startsWith('codex/')) return true;
  try {
    deps.resolve(model, credential);
    return true;
  } catch (error) {
    if (error instanceof RpcError && error.reason === 'invalid_params') return false;
    throw error;
  }
}
