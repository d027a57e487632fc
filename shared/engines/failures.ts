// The error of the table for a failure of a provider: its row, whether a retry may help, and a message. The only file
// that reads the SDK's errors; their bodies, headers and requests are never passed on.
import { RpcError } from '../errors.ts';
import { ContextOverflow } from './context-overflow.ts';
import { PROVIDERS, type ProviderName } from './direct/providers.ts';
import { isJson, type Json, NotAStream } from './direct/stream-repair.ts';
import type { Credential } from './engine.ts';
import { isOverflow, limitOf } from './overflow.ts';
import { clean, readProviderMessage } from './provider-message.ts';

export interface Failure {
  readonly error: RpcError;
  /** Whether the same call may be made again, as long as nothing of an answer was passed on. */
  readonly retry: boolean;
  /** From the provider's Retry-After. */
  readonly retryAfterMs: number | undefined;
}

/** What the failure came in. */
export interface FailedCall {
  /** Number of the call, from 1. */
  readonly attempt: number;
  /** Epoch milliseconds, for a Retry-After that is a date. */
  readonly now: number;
  /** The caller's own, when the call was made with it: no message and no log line may hold its token. */
  readonly credential?: Credential | undefined;
  /** The deployment's own, for the same reason. */
  readonly apiKey?: string | undefined;
}

/** Codes of failures before anything of the request was sent. */
const UNSENT =
  /^(?:ECONNREFUSED|ENOTFOUND|EAI_\w+|EHOSTUNREACH|ENETUNREACH|ERR_TLS_\w+|ERR_SSL_\w+|\w*CERT\w*|\w*SIGNATURE\w*)$/;
const NO_CREDIT =
  /insufficient[ _]?(?:quota|funds|balance|credits?)|credit balance|billing|payment required|out of credits/i;

/** Any error of the SDK, of `fetch` or of a stream's error event -> a failure. An RpcError is kept as it is. */
export function toFailure(provider: ProviderName, modelId: string, thrown: unknown, call: FailedCall): Failure {
  if (thrown instanceof RpcError) return { error: thrown, retry: false, retryAfterMs: undefined };
  const { label, baseUrlVariable } = PROVIDERS[provider];
  const { attempt, now, credential } = call;
  const seen = inspect(thrown, [credential?.token() ?? '', call.apiKey ?? '']);
  const { status, providerMessage, code } = seen;
  const data = {
    provider,
    model: `${provider}/${modelId}`,
    attempts: attempt,
    ...(status !== undefined && { status }),
  };
  const fail = (what: string, retryable: boolean, retry = retryable, more: Json = {}): Failure => ({
    error: new RpcError('upstream_error', {
      message: `${label} ${what}${providerMessage === '' ? '' : `: ${providerMessage}`}`,
      data: { ...data, ...more },
      retryable,
      cause: new Error(`${label}, call ${attempt}: ${seen.name}${status === undefined ? '' : ` ${status}`}`),
    }),
    retry: retry && !seen.neverAgain,
    retryAfterMs: toRetryAfterMs(seen.headers, now),
  });
  if (seen.notStream !== undefined) {
    const { sample, contentType } = seen.notStream;
    if (sample === '') return fail(`sent an empty answer (${status ?? 200})`, true, false);
    const form = sample.startsWith('<') ? 'a web page' : 'something else than a stream of events';
    const type = contentType === '' ? '' : `, ${clean(contentType)}`;
    return fail(`answered with ${form} (${status ?? 200}${type}; is ${baseUrlVariable} right?)`, false);
  }
  if (status === undefined) {
    if (seen.network) {
      const known = seen.networkCode === '' ? '' : ` (${seen.networkCode})`;
      return fail(`could not be reached${known}`, true, true, UNSENT.test(seen.networkCode) ? {} : { sent: true });
    }
    if (provider === 'google' && /credentials|invalid_grant|reauth/i.test(providerMessage))
      return fail('has no valid credentials here: run `gcloud auth application-default login`', false);
    if (providerMessage !== '') return fail('reported an error', true);
    return fail('sent an answer that could not be read', true, false);
  }
  if (status >= 200 && status < 300) return fail('cut its answer short', true, false, { sent: true });
  const codeAndMessage = `${code} ${providerMessage}`;
  if (status === 413 || isOverflow(codeAndMessage, status)) {
    const error = new ContextOverflow({ label, data, providerMessage, limitTokens: limitOf(providerMessage) });
    return { ...fail('', false), error };
  }
  if (status === 402 || (status < 500 && NO_CREDIT.test(codeAndMessage)))
    return fail(`says that the account has no quota left (${status})`, false);
  if (status === 401 || status === 403) {
    const whose = credential === undefined ? 'the configured credentials' : 'the credentials of the login';
    return fail(`refused ${whose} (${status})`, false);
  }
  if (status === 404 || /model_not_found/.test(code)) {
    if (!/model/i.test(codeAndMessage) && !providerMessage.includes(modelId))
      return fail(`has no such API (${status}; is ${baseUrlVariable} right?)`, false);
    const { message, cause } = fail(`has no model ${modelId}, or not for this account (${status})`, false).error;
    const issues = [{ path: 'model', message }];
    return { ...fail('', false), error: new RpcError('invalid_params', { data: { ...data, issues }, cause }) };
  }
  if (status === 429) return fail('is limiting the rate of calls (429)', true);
  if (status === 408 || status >= 500) return fail(`failed (${status})`, true);
  return fail(`refused the request (${status})`, false);
}

/** The provider did not answer within `waitedMs`. */
export function toTimeout(provider: ProviderName, waitedMs: number): RpcError {
  const message = `${PROVIDERS[provider].label} did not answer within ${Math.round(waitedMs) / 1_000} s`;
  return new RpcError('upstream_timeout', { message, data: { provider, sent: true } });
}

/** The answer exceeds the gateway's own bound, which is no limit of the provider. */
export function toTooLarge(provider: ProviderName, bytesMax: number): RpcError {
  const size = bytesMax >= 1 << 20 ? `${bytesMax >> 20} MiB` : `${bytesMax} bytes`;
  const message = `The answer of ${PROVIDERS[provider].label} is longer than this gateway takes of one turn (${size})`;
  return new RpcError('upstream_error', { message, data: { provider, limit_bytes: bytesMax }, retryable: false });
}

/**
 * The same error, with the time after which the caller may try again; an error that is not retryable stays as it is.
 */
export function withRetryAfter(error: RpcError, retryAfterMs: number | undefined): RpcError {
  if (retryAfterMs === undefined || !error.retryable) return error;
  const { reason, message, data, retryable, cause } = error;
  return new RpcError(reason, { message, data, retryable, cause, retryAfterMs });
}

interface Seen {
  readonly name: string;
  readonly status: number | undefined;
  readonly headers: Json;
  /** The provider's message, truncated and without anything that looks like a key; ''. */
  readonly providerMessage: string;
  readonly code: string;
  readonly network: boolean;
  /** Of the system or of the HTTP client; ''. */
  readonly networkCode: string;
  readonly notStream: NotAStream | undefined;
  /** The provider states that a retry does not help. */
  readonly neverAgain: boolean;
}

/** Reads the SDK's two error shapes (APICallError, and the payload of a stream's error event) by their members. */
function inspect(thrown: unknown, secrets: readonly string[]): Seen {
  const members = toRecord(thrown);
  const name = thrown instanceof Error ? thrown.name : typeof members.type === 'string' ? members.type : typeof thrown;
  const causes = causesOf(thrown);
  const status = typeof members.statusCode === 'number' ? members.statusCode : undefined;
  const notStream = causes.find((cause) => cause instanceof NotAStream);
  const body = notStream?.sample ?? (typeof members.responseBody === 'string' ? members.responseBody : undefined);
  const isProviders = name === 'AI_APICallError' || status !== undefined || isJson(members.data);
  const message = String(members.message ?? '');
  // Errors of parsing quote what they could not parse, that is, the answer: their text stays out.
  const own = isProviders || /credentials|invalid_grant|reauth/i.test(message) ? message : '';
  const fromBody = body === undefined ? undefined : readProviderMessage(body, secrets);
  const fromData = readProviderMessage(JSON.stringify(members.data ?? {}), secrets);
  const isNetwork = status === undefined && name === 'AI_APICallError';
  const isCut = status !== undefined && status < 300 && notStream === undefined;
  const headers = toRecord(members.responseHeaders);
  return {
    name,
    status,
    headers,
    providerMessage:
      isNetwork || isCut ? '' : fromBody?.text || (body === undefined || body === '' ? clean(own, secrets) : ''),
    code: `${fromBody?.code ?? ''} ${fromData.code} ${typeof members.code === 'string' ? members.code : ''}`.trim(),
    network: isNetwork,
    networkCode:
      causes.flatMap((cause) => ('code' in cause && typeof cause.code === 'string' ? [cause.code] : [])).at(-1) ?? '',
    notStream,
    neverAgain: headers['x-should-retry'] === 'false',
  };
}

function causesOf(thrown: unknown): Error[] {
  const causes: Error[] = [];
  for (let cause = thrown; cause instanceof Error && causes.length < 8; cause = cause.cause) causes.push(cause);
  return causes;
}

/** `retry-after-ms`, or `retry-after` in seconds or as a date -> milliseconds. */
function toRetryAfterMs(headers: Json, now: number): number | undefined {
  const ms = Number(headers['retry-after-ms'] ?? Number.NaN);
  if (Number.isFinite(ms) && ms >= 0) return ms;
  const text = headers['retry-after'];
  if (typeof text !== 'string' || text.trim() === '') return undefined;
  const seconds = Number(text);
  const wait = Number.isFinite(seconds) ? seconds * 1_000 : Date.parse(text) - now;
  return Number.isFinite(wait) ? Math.max(0, wait) : undefined;
}

function toRecord(value: unknown): Json {
  return isJson(value) ? value : {};
}
