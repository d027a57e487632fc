// The AI SDK providers: imported at first use, created once (and once per call for a caller's own credentials), with
// explicit credentials. Neither this file nor the SDK reads the environment.
import type { LanguageModelV4 } from '@ai-sdk/provider';
import type { OAuth2Client } from 'google-auth-library';
import { type Config, PROVIDER_URLS } from '../../../config/config.ts';
import type { ModelProvider } from '../../../config/values/model-providers.ts';
import type { RpcError } from '../../../errors.ts';
import { splitQuery, toBaseUrl, toServerUrl, withQuery } from '../../../net/base-url.ts';
import type { Credential } from '../../engine.ts';
import { isProviderName, type ProviderName, type Wire } from '../../provider-names.ts';
import type { Fetch, ProviderFetch } from './provider-fetch.ts';
import { type ChatExtras, createChatExtras, withItemTypes } from './server-requests.ts';

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
  get(provider: string, modelId: string, credential?: Credential): Promise<LanguageModelV4>;
  /** See ChatExtras, for a server of the operator. */
  leaveOut(provider: string, error: RpcError, leftOut: Set<string>): boolean;
  /** Opens a connection to a provider that was called before, if none is idle. */
  openAhead(provider: string): void;
}

type MakeModel = (modelId: string, credential: Credential | undefined) => LanguageModelV4;

interface ModelsOptions {
  /** The `fetch` of a provider with this wire. */
  readonly fetch: (wire: Wire) => ProviderFetch;
  readonly google?: GoogleOptions;
  /** Base URLs for calls with a caller's own credentials. */
  readonly providerUrls?: Config['providerUrls'];
  readonly modelProviders?: Config['modelProviders'];
}

export function createModels(providers: Config['providers'], options: ModelsOptions): Models {
  const loading = new Map<string, Promise<MakeModel>>();
  const extras = new Map<string, ChatExtras>();
  const fetches = new Map<string, ProviderFetch>();
  const start = async (provider: string): Promise<MakeModel> => {
    const fetch = (wire: Wire): ProviderFetch => {
      const made = options.fetch(wire);
      fetches.set(provider, made);
      return made;
    };
    if (isProviderName(provider)) return LOADERS[provider](providers, { ...options, fetch });
    const server = options.modelProviders?.get(provider);
    if (server === undefined) throw new Error(`${provider} is not configured`);
    const extra = createChatExtras();
    extras.set(provider, extra);
    return loadServer({ name: provider, ...server }, fetch(server.wire), extra);
  };
  const load = (provider: string): Promise<MakeModel> => {
    let made = loading.get(provider);
    if (made === undefined) {
      made = start(provider);
      loading.set(provider, made);
      // A failed import (missing file, no memory) is not cached, so that the next call tries again.
      made.catch(() => loading.delete(provider));
    }
    return made;
  };
  return {
    get: async (provider, modelId, credential) => (await load(provider))(modelId, credential),
    leaveOut: (provider, error, leftOut) => extras.get(provider)?.leaveOut(error, leftOut) ?? false,
    openAhead: (provider) => fetches.get(provider)?.openAhead(),
  };
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
    const fetch = toFetch('responses');
    const { createOpenAI } = await import('@ai-sdk/openai');
    const connect = (apiKey: string, baseUrl: string) =>
      createOpenAI({ apiKey, ...connection(baseUrl, isOpenAi(baseUrl) ? fetch : withItemTypes(fetch)) });
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

function isOpenAi(baseUrl: string): boolean {
  return baseUrl.startsWith(PROVIDER_URLS.openai);
}

/** A server of the operator. Without a key only its own headers are sent. */
async function loadServer(
  { name, wire, baseUrl, apiKey = '', headers }: ModelProvider & { readonly name: string },
  fetch: Fetch,
  extras: ChatExtras,
): Promise<MakeModel> {
  const connected = withPath(toServerUrl(baseUrl), wire === 'chat' ? fetch : withItemTypes(fetch));
  if (wire === 'chat') {
    const { createOpenAICompatible } = await import('@ai-sdk/openai-compatible');
    const options = { includeUsage: true, supportsStructuredOutputs: true, transformRequestBody: extras.fit };
    const own = createOpenAICompatible({ name, apiKey, headers: { ...headers }, ...options, ...connected });
    return (modelId) => own.chatModel(modelId);
  }
  const { createOpenAI } = await import('@ai-sdk/openai');
  // The SDK sends an empty key, too; a header without a value is not sent.
  const bare: Record<string, string> = apiKey === '' ? { Authorization: '' } : {};
  const own = createOpenAI({ apiKey, headers: { ...bare, ...headers }, ...connected });
  return (modelId) => own.responses(modelId);
}

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
