// The AI SDK providers: imported at first use, created once (and once per call for a caller's own credentials), with
// explicit credentials. Neither this file nor the SDK reads the environment.
import type { LanguageModelV4, LanguageModelV4CallOptions } from '@ai-sdk/provider';
import type { OAuth2Client } from 'google-auth-library';
import { type Config, PROVIDER_URLS } from '../../config/config.ts';
import { splitQuery, toBaseUrl, withQuery } from '../../net/base-url.ts';
import type { OutputSchema } from '../../output-schema.ts';
import type { Credential } from '../engine.ts';
import type { Fetch } from './provider-fetch.ts';

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

/** For a Vertex endpoint other than Google's, and credentials other than the application default ones. */
export interface GoogleOptions {
  readonly baseUrl?: string;
  readonly authClient?: OAuth2Client;
}

export interface Models {
  /**
   * The SDK's model, on a caller's own credentials when given; throws `Error` when there are none and the provider is
   * not configured.
   */
  get(provider: ProviderName, modelId: string, credential?: Credential): Promise<LanguageModelV4>;
  /** Options of a call that differ by provider. */
  callOptions(
    provider: ProviderName,
    outputSchema?: OutputSchema,
  ): Pick<LanguageModelV4CallOptions, 'maxOutputTokens' | 'providerOptions'>;
}

/**
 * Anthropic's API requires an output limit. This one includes thinking; the SDK lowers it for models with a known
 * smaller limit. Other providers use the limit of the model.
 */
const ANTHROPIC_OUTPUT_TOKENS_MAX = 32_000;

type MakeModel = (modelId: string, credential: Credential | undefined) => LanguageModelV4;

interface ModelsOptions {
  readonly fetch: (provider: ProviderName) => Fetch;
  readonly google?: GoogleOptions;
  /** Base URLs for calls with a caller's own credentials. */
  readonly providerUrls?: Config['providerUrls'];
}

export function createModels(providers: Config['providers'], options: ModelsOptions): Models {
  const loading = new Map<ProviderName, Promise<MakeModel>>();
  const load = (provider: ProviderName): Promise<MakeModel> => {
    let made = loading.get(provider);
    if (made === undefined) {
      made = LOADERS[provider](providers, options);
      loading.set(provider, made);
      // A failed import (missing file, no memory) is not cached, so that the next call tries again.
      made.catch(() => loading.delete(provider));
    }
    return made;
  };
  return {
    get: async (provider, modelId, credential) => (await load(provider))(modelId, credential),
    callOptions(provider, outputSchema) {
      if (provider !== 'openai' || outputSchema === undefined) return CALL_OPTIONS[provider];
      return { providerOptions: { openai: { store: false, strictJsonSchema: isStrict(outputSchema) } } };
    },
  };
}

const CALL_OPTIONS = {
  anthropic: { maxOutputTokens: ANTHROPIC_OUTPUT_TOKENS_MAX },
  // The gateway stores the conversation, so the provider need not store it.
  openai: { providerOptions: { openai: { store: false } } },
  google: {},
};

/**
 * OpenAI refuses a schema as strict unless each object names all of its properties as required and allows no others.
 */
function isStrict(schema: unknown): boolean {
  if (Array.isArray(schema)) return schema.every(isStrict);
  if (typeof schema !== 'object' || schema === null) return true;
  const { type, properties, required, additionalProperties }: OutputSchema = { ...schema };
  if (type === 'object' || properties !== undefined) {
    const names = Object.keys(properties ?? {});
    const isAllRequired = Array.isArray(required) && names.every((name) => required.includes(name));
    if (additionalProperties !== false || (names.length > 0 && !isAllRequired)) return false;
  }
  return Object.values(schema).every(isStrict);
}

type Loader = (providers: Config['providers'], options: ModelsOptions) => Promise<MakeModel>;

const LOADERS: Readonly<Record<ProviderName, Loader>> = {
  async anthropic({ anthropic }, { fetch: toFetch, providerUrls = PROVIDER_URLS }) {
    const fetch = toFetch('anthropic');
    const { createAnthropic } = await import('@ai-sdk/anthropic');
    const connect = (apiKey: string, baseUrl: string) => createAnthropic({ apiKey, ...connection(baseUrl, fetch) });
    const own = anthropic && connect(anthropic.apiKey, anthropic.baseUrl ?? PROVIDER_URLS.anthropic);
    return (modelId, credential) =>
      choose('anthropic', own, credential && connect(credential.token(), providerUrls.anthropic)).languageModel(
        modelId,
      );
  },
  async openai({ openai }, { fetch: toFetch, providerUrls = PROVIDER_URLS }) {
    const fetch = toFetch('openai');
    const { createOpenAI } = await import('@ai-sdk/openai');
    const connect = (apiKey: string, baseUrl: string) => createOpenAI({ apiKey, ...connection(baseUrl, fetch) });
    const own = openai && connect(openai.apiKey, openai.baseUrl ?? PROVIDER_URLS.openai);
    return (modelId, credential) =>
      choose('openai', own, credential && connect(credential.token(), providerUrls.openai)).responses(modelId);
  },
  async google({ google }, { fetch: toFetch, google: extra, providerUrls = PROVIDER_URLS }) {
    const fetch = toFetch('google');
    const { createGoogleVertex } = await import('@ai-sdk/google-vertex');
    // The API key of a login is for the Gemini API, which has the same paths and bodies as Vertex AI at another base
    // URL.
    const gemini = (apiKey: string) =>
      createGoogleVertex({ apiKey, ...connection(providerUrls.google, fetch, 'v1beta') });
    const own =
      google &&
      createGoogleVertex({
        // Empty, not absent: otherwise the SDK reads GOOGLE_VERTEX_API_KEY and, where it is set, uses it instead of
        // the credentials.
        apiKey: '',
        project: google.project,
        location: google.location,
        ...(extra?.baseUrl === undefined ? { fetch } : withPath(extra.baseUrl, fetch)),
        ...(extra?.authClient === undefined ? {} : { googleAuthOptions: { authClient: extra.authClient } }),
      });
    return (modelId, credential) =>
      choose('google', own, credential && gemini(credential.token())).languageModel(modelId);
  },
};

/** The base URL for the SDK: it appends paths, so its `fetch` adds the query. */
function connection(url: string, fetch: Fetch, version?: string): { readonly baseURL: string; readonly fetch: Fetch } {
  return withPath(toBaseUrl(url, version), fetch);
}

function withPath(url: string, fetch: Fetch): { readonly baseURL: string; readonly fetch: Fetch } {
  const { path, query } = splitQuery(url);
  if (query === '') return { baseURL: path, fetch };
  const address = (input: Parameters<Fetch>[0]): string => (input instanceof Request ? input.url : String(input));
  return { baseURL: path, fetch: (input, init) => fetch(withQuery(address(input), query), init) };
}

/** A caller's own credentials take precedence: a prompt with a login never uses the deployment's account. */
function choose<Provider>(name: ProviderName, own: Provider | undefined, login: Provider | undefined): Provider {
  const provider = login ?? own;
  if (provider === undefined) throw new Error(`${name} has no credentials`);
  return provider;
}
