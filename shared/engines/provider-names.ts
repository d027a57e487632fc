// The providers: names, labels, default models, the settings that name them, and their wire formats.
import type { Config } from '../config/config.ts';

export type ProviderName = keyof Config['providers'];

/**
 * Per provider: label, default model and environment variables. The first provider in this order that has credentials
 * is the default.
 */
export const PROVIDERS = {
  anthropic: {
    label: 'Anthropic',
    defaultModel: 'anthropic/claude-sonnet-5-5',
    variable: 'ANTHROPIC_API_KEY',
    baseUrlVariable: 'ANTHROPIC_BASE_URL',
  },
  openai: {
    label: 'OpenAI',
    defaultModel: 'openai/gpt-6.1-sol',
    variable: 'OPENAI_API_KEY',
    baseUrlVariable: 'OPENAI_BASE_URL',
  },
  google: {
    label: 'Google Vertex AI',
    defaultModel: 'google/gemini-4-hydrogen',
    variable: 'GOOGLE_CLOUD_PROJECT (with application default credentials)',
    baseUrlVariable: 'GOOGLE_CLOUD_LOCATION',
  },
} as const satisfies Record<
  ProviderName,
  { label: string; defaultModel: string; variable: string; baseUrlVariable: string }
>;

export const PROVIDER_NAMES: readonly ProviderName[] = ['anthropic', 'openai', 'google'];

export function isProviderName(name: string): name is ProviderName {
  return Object.hasOwn(PROVIDERS, name);
}

/** The name of a provider in messages; one of the operator has the name from the configuration. */
export function labelOf(provider: string): string {
  return isProviderName(provider) ? PROVIDERS[provider].label : provider;
}

/** Where the address of a provider is set, for messages. */
export function addressSettingOf(provider: string): string {
  return isProviderName(provider) ? PROVIDERS[provider].baseUrlVariable : `${provider} in MODEL_PROVIDERS`;
}

/** The form of a provider's API. */
export type Wire = 'anthropic' | 'responses' | 'google' | 'chat';

const WIRES: Readonly<Record<ProviderName, Wire>> = { anthropic: 'anthropic', openai: 'responses', google: 'google' };

/** Undefined for a provider that is not configured. */
export function wireOf(provider: string, modelProviders: Config['modelProviders'] | undefined): Wire | undefined {
  return isProviderName(provider) ? WIRES[provider] : modelProviders?.get(provider)?.wire;
}
