// Checks a token by a request to its provider that requires it, generates nothing and costs nothing. Follows no
// redirect, so that only the configured origin receives the token. No error contains the token.
import { deadline } from '../../async.ts';
import { RpcError } from '../../errors.ts';
import { joinUrl } from '../../net/base-url.ts';
import { readToken } from './login-token.ts';

export const LOGIN_PROVIDERS = ['chatgpt', 'openai', 'anthropic', 'google'] as const;
export type LoginProvider = (typeof LOGIN_PROVIDERS)[number];

type LoginFetch = (
  url: string,
  init: { headers: Record<string, string>; redirect: 'manual'; signal: AbortSignal },
) => Promise<Answer>;

interface Answer {
  readonly status: number;
  readonly bodyUsed: boolean;
  readonly body: (AsyncIterable<Uint8Array> & { cancel(): Promise<void> }) | null;
}

export interface LoginCheckOptions {
  /** Includes the version of the API (`.../v1`, `.../v1beta`); its query is sent with every request. */
  readonly baseUrls: Readonly<Record<LoginProvider, string>>;
  /** Default: the global `fetch`, which uses no proxy. */
  readonly fetch?: LoginFetch;
  /** Deadline of the request and its response, milliseconds. Default 10 s. */
  readonly timeoutMs?: number;
}

/**
 * Resolves when the provider accepts the token. Throws RpcError `invalid_params` (path `credentials.token`) when the
 * provider refuses the token, and `unavailable` when the provider cannot be reached or its response neither accepts nor
 * refuses the token; rejects with the signal's reason when aborted.
 */
export type LoginCheck = (provider: LoginProvider, token: string, signal: AbortSignal) => Promise<void>;

const TIMEOUT_MS = 10_000;
const BODY_BYTES_MAX = 64 << 10;
const LABELS = { chatgpt: 'ChatGPT', openai: 'OpenAI', anthropic: 'Anthropic', google: 'Google' } as const;

export function createLoginCheck({
  baseUrls,
  fetch = globalThis.fetch,
  timeoutMs = TIMEOUT_MS,
}: LoginCheckOptions): LoginCheck {
  return async (provider, token, signal) => {
    const { path, headers } = REQUESTS[provider](token);
    let status: number;
    let refused: boolean;
    try {
      const response = await fetch(joinUrl(baseUrls[provider], path), {
        headers: { accept: 'application/json', ...headers },
        redirect: 'manual',
        signal: deadline(timeoutMs, signal),
      });
      status = response.status;
      refused = status === 401 || status === 403 || (provider === 'google' && (await isBadGoogleKey(response)));
      if (!response.bodyUsed) await response.body?.cancel();
    } catch (error) {
      signal.throwIfAborted();
      throw unknown(provider, summaryOf(error));
    }
    if (refused) throw refusal(`the provider refused this token`, { provider, provider_status: status });
    if (status !== 200) throw unknown(provider, `status ${status}`);
  };
}

/**
 * `invalid_params` and not 401: one param is wrong, not the caller's gateway key, and a client may delete its key after
 * a 401.
 */
export function refusal(message: string, data: Readonly<Record<string, unknown>> = {}): RpcError {
  return new RpcError('invalid_params', { data: { ...data, issues: [{ path: 'credentials.token', message }] } });
}

const REQUESTS: Readonly<Record<LoginProvider, (token: string) => { path: string; headers: Record<string, string> }>> =
  {
    anthropic: (token) => ({
      path: '/models?limit=1',
      headers: { 'x-api-key': token, 'anthropic-version': '2023-06-01' },
    }),
    openai: (token) => ({ path: '/models', headers: { authorization: `Bearer ${token}` } }),
    google: (token) => ({ path: '/models?pageSize=1', headers: { 'x-goog-api-key': token } }),
    // Reads the usage of the plan: the smallest request that requires the token; Codex sends it too.
    chatgpt: (token) => {
      const { accountId } = readToken(token);
      return {
        path: '/wham/usage',
        headers: {
          authorization: `Bearer ${token}`,
          ...(accountId === undefined ? {} : { 'chatgpt-account-id': accountId }),
        },
      };
    },
  };

/** Google answers an unknown key with 400, not 401. */
async function isBadGoogleKey(response: Answer): Promise<boolean> {
  if (response.status !== 400 || response.body === null) return false;
  const chunks: Uint8Array[] = [];
  let sizeBytes = 0;
  for await (const chunk of response.body) {
    sizeBytes += chunk.length;
    if (sizeBytes > BODY_BYTES_MAX) break;
    chunks.push(chunk);
  }
  return /"API_KEY_INVALID"|API key (?:not valid|expired)/.test(Buffer.concat(chunks).toString('utf8'));
}

/** Creates a new cause, because an error of the HTTP client may quote the request. */
function unknown(provider: LoginProvider, summary: string): RpcError {
  return new RpcError('unavailable', {
    message: `${LABELS[provider]} could not verify this token; nothing was stored`,
    data: { provider },
    retryAfterMs: 1_000,
    cause: new Error(`login check with ${LABELS[provider]}: ${summary}`),
  });
}

function summaryOf(error: unknown): string {
  if (!(error instanceof Error)) return 'failed';
  const { cause } = error;
  return cause instanceof Error && 'code' in cause ? `${error.name} (${String(cause.code)})` : error.name;
}
