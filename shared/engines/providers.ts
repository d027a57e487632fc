// The AI SDK providers: imported when first used, made once, given their credentials explicitly. Nothing here reads the environment,
// and neither may the SDK.
import type { LanguageModelV4, LanguageModelV4CallOptions } from '@ai-sdk/provider';
import type { OAuth2Client } from 'google-auth-library';
import type { Config } from '../config.ts';
import type { Fetch } from './call-guard.ts';

export type ProviderName = keyof Config['providers'];

/** What a caller sees and what a deployer sets, per provider; in the order in which the first one with credentials is the default. */
export const PROVIDERS = {
  anthropic: { label: 'Anthropic', defaultModel: 'anthropic/claude-sonnet-5-5', variable: 'ANTHROPIC_API_KEY' },
  openai: { label: 'OpenAI', defaultModel: 'openai/gpt-6.1-sol', variable: 'OPENAI_API_KEY' },
  google: {
    label: 'Google Vertex AI',
    defaultModel: 'google/gemini-4-hydrogen',
    variable: 'GOOGLE_CLOUD_PROJECT (with application default credentials)',
  },
} as const satisfies Record<ProviderName, { label: string; defaultModel: string; variable: string }>;

export const PROVIDER_NAMES: readonly ProviderName[] = ['anthropic', 'openai', 'google'];

export function isProviderName(name: string): name is ProviderName {
  return Object.hasOwn(PROVIDERS, name);
}

/** For a Vertex endpoint other than Google's, and credentials other than the application default ones. */
export interface GoogleOptions {
  readonly baseUrl?: string;
  readonly authClient?: OAuth2Client;
}

export interface Models {
  /** The SDK's model; throws `Error` when the provider is not configured. */
  get(provider: ProviderName, modelId: string): Promise<LanguageModelV4>;
  /** Options of a call that differ by provider. */
  callOptions(provider: ProviderName): Pick<LanguageModelV4CallOptions, 'maxOutputTokens' | 'providerOptions'>;
}

/**
 * Anthropic's API demands a limit; this one leaves room for thinking, and the SDK lowers it for the models it knows to have less. The
 * others stop at the model's own limit.
 */
const ANTHROPIC_OUTPUT_TOKENS_MAX = 32_000;

type MakeModel = (modelId: string) => LanguageModelV4;

export function createModels(
  providers: Config['providers'],
  options: { readonly fetch: Fetch; readonly google?: GoogleOptions },
): Models {
  const loading = new Map<ProviderName, Promise<MakeModel>>();
  const load = (provider: ProviderName): Promise<MakeModel> => {
    let made = loading.get(provider);
    if (made === undefined) {
      made = LOADERS[provider](providers, options);
      loading.set(provider, made);
      // A failed import (a file not yet there, no memory) must not be the answer for the rest of the process's life.
      made.catch(() => loading.delete(provider));
    }
    return made;
  };
  return {
    get: async (provider, modelId) => (await load(provider))(modelId),
    callOptions: (provider) => CALL_OPTIONS[provider],
  };
}

const CALL_OPTIONS = {
  anthropic: { maxOutputTokens: ANTHROPIC_OUTPUT_TOKENS_MAX },
  // The conversation is kept here; the provider need not keep a second one.
  openai: { providerOptions: { openai: { store: false } } },
  google: {},
};

type Loader = (
  providers: Config['providers'],
  options: { readonly fetch: Fetch; readonly google?: GoogleOptions },
) => Promise<MakeModel>;

const LOADERS: Readonly<Record<ProviderName, Loader>> = {
  async anthropic({ anthropic }, { fetch }) {
    if (anthropic === undefined) throw notConfigured('anthropic');
    const { createAnthropic } = await import('@ai-sdk/anthropic');
    const baseURL = toBaseUrl(anthropic.baseUrl ?? 'https://api.anthropic.com');
    const provider = createAnthropic({ apiKey: anthropic.apiKey, baseURL, fetch });
    return (modelId) => provider.languageModel(modelId);
  },
  async openai({ openai }, { fetch }) {
    if (openai === undefined) throw notConfigured('openai');
    const { createOpenAI } = await import('@ai-sdk/openai');
    const baseURL = toBaseUrl(openai.baseUrl ?? 'https://api.openai.com');
    const provider = createOpenAI({ apiKey: openai.apiKey, baseURL, fetch });
    return (modelId) => provider.responses(modelId);
  },
  async google({ google }, { fetch, google: extra }) {
    if (google === undefined) throw notConfigured('google');
    const { createGoogleVertex } = await import('@ai-sdk/google-vertex');
    const provider = createGoogleVertex({
      // Empty, not absent: otherwise the SDK looks for GOOGLE_VERTEX_API_KEY and, finding one, takes it instead of the credentials.
      apiKey: '',
      project: google.project,
      location: google.location,
      fetch,
      ...(extra?.baseUrl === undefined ? {} : { baseURL: extra.baseUrl }),
      ...(extra?.authClient === undefined ? {} : { googleAuthOptions: { authClient: extra.authClient } }),
    });
    return (modelId) => provider.languageModel(modelId);
  },
};

/** People write the base URL with and without `/v1` and a trailing slash; the SDK wants `/v1` without a slash. */
export function toBaseUrl(url: string): string {
  const bare = url.trim().replace(/\/+$/, '');
  return /\/v\d+[a-z0-9]*$/.test(bare) ? bare : `${bare}/v1`;
}

function notConfigured(provider: ProviderName): Error {
  return new Error(`${provider} has no credentials`);
}
