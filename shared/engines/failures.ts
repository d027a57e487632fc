// What a provider's failure means to the caller: which row of the error table, whether to try again, and what may be said. Owns the
// only look into the SDK's errors; never passes on their bodies, headers or request.
import { RpcError } from '../errors.ts';
import type { Credential } from './engine.ts';
import { PROVIDERS, type ProviderName } from './providers.ts';

export interface Failure {
  readonly error: RpcError;
  /** Whether the same call may be made again, as long as nothing of an answer was passed on. */
  readonly retry: boolean;
  /** The provider's own wish. */
  readonly retryAfterMs: number | undefined;
}

const DETAIL_CHARS_MAX = 300;

/** What the failure came in. */
export interface FailedCall {
  /** Number of the call, from 1. */
  readonly attempt: number;
  /** Epoch milliseconds, for a Retry-After that is a date. */
  readonly now: number;
  /** The caller's own, when the call was made with it: nothing that is said or logged may hold its token. */
  readonly credential?: Credential | undefined;
}

/** Any error of the SDK, of `fetch` or of a stream's error event -> a failure. An RpcError is kept as it is. */
export function toFailure(
  provider: ProviderName,
  modelId: string,
  thrown: unknown,
  { attempt, now, credential }: FailedCall,
): Failure {
  if (thrown instanceof RpcError) return { error: thrown, retry: false, retryAfterMs: undefined };
  const { label } = PROVIDERS[provider];
  const seen = inspect(thrown, credential?.token());
  const status = seen.status;
  const data = { provider, attempts: attempt, ...(status === undefined || status < 300 ? {} : { status }) };
  const cause = new Error(`${label}, call ${attempt}: ${seen.summary}`);
  const fail = (message: string, retryable: boolean, retry = retryable): Failure => ({
    error: new RpcError('upstream_error', { message, data, retryable, cause }),
    retry: retry && !seen.neverAgain,
    retryAfterMs: toRetryAfterMs(seen.headers, now),
  });
  if (status === undefined) {
    if (seen.network) return fail(`${label} could not be reached`, true);
    if (provider === 'google' && /credentials|invalid_grant|reauth/i.test(seen.detail))
      return fail('Google credentials are missing or expired: run `gcloud auth application-default login`', false);
    return fail(`${label} sent an answer that could not be read`, true, false);
  }
  if (status >= 200 && status < 300) return fail(`${label} cut its answer short`, true, false);
  if (status === 401 || status === 403) {
    const whose = credential === undefined ? 'the configured credentials' : 'the credentials of the login';
    return fail(`${label} refused ${whose} (${status})`, false);
  }
  if (status === 404) {
    const issues = [{ path: 'model', message: `${label} has no model ${modelId}, or not for this account` }];
    return { ...fail('', false), error: new RpcError('invalid_params', { data: { ...data, issues }, cause }) };
  }
  if (status === 429) {
    if (seen.noQuota) return fail(`${label}: the account has no quota left`, false);
    return fail(`${label} is limiting the rate of calls (429)`, true);
  }
  if (status === 408 || status >= 500) return fail(`${label} failed (${status})`, true);
  return fail(`${label} refused the request (${status})${seen.detail === '' ? '' : `: ${seen.detail}`}`, false);
}

/** The provider let a deadline pass; `waitedMs` says which. */
export function toTimeout(provider: ProviderName, waitedMs: number): RpcError {
  const message = `${PROVIDERS[provider].label} did not answer within ${Math.round(waitedMs) / 1_000} s`;
  return new RpcError('upstream_timeout', { message, data: { provider } });
}

/** The provider sent more than may be kept in memory. */
export function toTooLarge(provider: ProviderName): RpcError {
  const message = `${PROVIDERS[provider].label} sent more than an answer may hold`;
  return new RpcError('upstream_error', { message, data: { provider }, retryable: false });
}

/** The same error, with the time after which the caller may try again; an error that is not retryable stays as it is. */
export function withRetryAfter(error: RpcError, retryAfterMs: number | undefined): RpcError {
  if (retryAfterMs === undefined || !error.retryable) return error;
  const { reason, message, data, retryable, cause } = error;
  return new RpcError(reason, { message, data, retryable, cause, retryAfterMs });
}

interface Seen {
  readonly status: number | undefined;
  readonly headers: Readonly<Record<string, unknown>>;
  /** What the provider said, cut and with anything that looks like a key removed; ''. */
  readonly detail: string;
  /** For the log. */
  readonly summary: string;
  readonly network: boolean;
  /** The provider rules out that another call helps now. */
  readonly neverAgain: boolean;
  /** The account is out of money, which looks like a rate limit. */
  readonly noQuota: boolean;
}

/** Reads the SDK's two error shapes (APICallError, and the payload of a stream's error event) by their members. */
function inspect(thrown: unknown, token: string | undefined): Seen {
  const members = toRecord(thrown);
  const status = typeof members.statusCode === 'number' ? members.statusCode : undefined;
  const headers = toRecord(members.responseHeaders);
  const name = thrown instanceof Error ? thrown.name : typeof members.type === 'string' ? members.type : typeof thrown;
  const isCall = name === 'AI_APICallError' || status !== undefined || isRecord(members.data);
  const isAuth = /credentials|invalid_grant|reauth/i.test(String(members.message));
  // Errors of parsing quote what they could not parse, that is, the answer: their text stays out.
  const detail = isCall || isAuth ? toDetail(members.message, token) : '';
  const inner = toRecord(toRecord(members.data).error);
  return {
    status,
    headers,
    detail,
    summary: `${name}${status === undefined ? '' : ` ${status}`}${detail === '' || status === 401 || status === 403 ? '' : `: ${detail}`}`,
    network: status === undefined && name === 'AI_APICallError',
    neverAgain: headers['x-should-retry'] === 'false',
    noQuota: inner.code === 'insufficient_quota' || members.code === 'insufficient_quota',
  };
}

/** `retry-after-ms`, or `retry-after` in seconds or as a date -> milliseconds. */
function toRetryAfterMs(headers: Readonly<Record<string, unknown>>, now: number): number | undefined {
  const ms = Number(headers['retry-after-ms'] ?? Number.NaN);
  if (Number.isFinite(ms) && ms >= 0) return ms;
  const text = headers['retry-after'];
  if (typeof text !== 'string' || text.trim() === '') return undefined;
  const seconds = Number(text);
  const wait = Number.isFinite(seconds) ? seconds * 1_000 : Date.parse(text) - now;
  return Number.isFinite(wait) ? Math.max(0, wait) : undefined;
}

function toDetail(message: unknown, token: string | undefined): string {
  if (typeof message !== 'string') return '';
  const known = token === undefined ? message : message.replaceAll(token, '[redacted]');
  const clean = known.replace(/\s+/g, ' ').replace(/\b(?:sk-|AIza|ya29\.|Bearer )[\w.*-]*/g, '[redacted]');
  return clean.length > DETAIL_CHARS_MAX ? `${clean.slice(0, DETAIL_CHARS_MAX)}…` : clean;
}

function toRecord(value: unknown): Readonly<Record<string, unknown>> {
  return isRecord(value) ? value : {};
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null;
}
