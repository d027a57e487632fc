// Converts a failure of a provider to an error of the table, and decides whether the engine may repeat the call.
// Messages contain the provider's message, but never its headers or the request.

import { RpcError } from '../../errors.ts';
import type { JsonObject } from '../../json/json-object.ts';
import type { Credential } from '../engine.ts';
import { addressSettingOf, labelOf } from '../provider-names.ts';
import { ContextOverflow } from './context-overflow.ts';
import { type InspectedError, inspectError } from './inspect-error.ts';
import type { NotAStream } from './not-a-stream.ts';
import { isOverflow, limitOf } from './overflow.ts';
import { clean } from './provider-message.ts';

export interface Failure {
  readonly error: RpcError;
  /** Whether the engine may repeat the call, unless a part of the answer was already sent to the caller. */
  readonly retry: boolean;
  /** Milliseconds from the provider's Retry-After header. */
  readonly retryAfterMs: number | undefined;
}

/** The call that failed. */
export interface FailedCall {
  /** Number of the call, from 1. */
  readonly attempt: number;
  /** Epoch milliseconds, used to convert a Retry-After date. */
  readonly now: number;
  /** Credential of the caller, if used; its token is removed from messages and logs. */
  readonly credential?: Credential | undefined;
  /** The deployment's credentials for the provider; removed from messages and logs. */
  readonly secrets?: readonly string[];
}

/** Network error codes of failures before any byte of the request was sent. */
const UNSENT =
  /^(?:ECONNREFUSED|ENOTFOUND|EAI_\w+|EHOSTUNREACH|ENETUNREACH|ERR_TLS_\w+|ERR_SSL_\w+|\w*CERT\w*|\w*SIGNATURE\w*)$/;
/** Timeout, conflict, too early: the SDKs of the providers repeat these calls as well. */
const TRY_AGAIN: ReadonlySet<number> = new Set([408, 409, 425]);
/** Some servers refuse a key with status 400; LiteLLM without a database refuses all keys but its own as below. */
const WRONG_KEY = /invalid[_ ]api[_ ]?key|api[_ ]key (?:is )?(?:not valid|invalid)|incorrect api key|no_db_connection/i;
/** Some servers refuse a model with status 400: LiteLLM, OpenRouter, DeepSeek, Mistral, Bedrock, Hugging Face. */
const NO_MODEL: readonly RegExp[] = [
  /invalid model(?: name passed|:| ['"`])|is not a valid model|model identifier is invalid/i,
  /\bmodel\b.{0,100}\b(?:does not|doesn't|not) exist/i,
];
const LOGIN = 'run `gcloud auth application-default login`';
const CREDENTIALS = { detail: 'credentials' };
const QUOTA = { detail: 'quota' };
const NOT_A_STREAM = { detail: 'not_a_stream' };
const NO_CREDIT =
  /insufficient[ _]?(?:quota|funds|balance|credits?)|credit balance|billing|payment required|out of credits/i;

/**
 * Converts any error of the SDK, of `fetch` or of a stream's error event. An RpcError is returned as it is, without a
 * retry.
 */
export function toFailure(provider: string, modelId: string, thrown: unknown, call: FailedCall): Failure {
  if (thrown instanceof RpcError) return { error: thrown, retry: false, retryAfterMs: undefined };
  const inspected = inspectError(thrown, [call.credential?.token() ?? '', ...(call.secrets ?? [])]);
  const { error, retry = error.retryable } = classify(provider, modelId, inspected, call);
  return { error, retry: retry && !inspected.noRetry, retryAfterMs: toRetryAfterMs(inspected.headers, call.now) };
}

/**
 * The error, and whether the engine may repeat the call; `retry` absent: as `error.retryable`, which is what the caller
 * may do.
 */
interface Classified {
  readonly error: RpcError;
  readonly retry?: boolean;
}

function classify(
  provider: string,
  modelId: string,
  { name, status, providerMessage, code, isCut, isNetwork, networkCode, notStream }: InspectedError,
  { attempt, credential }: FailedCall,
): Classified {
  const label = labelOf(provider);
  const addressSetting = addressSettingOf(provider);
  const data = {
    provider,
    model: `${provider}/${modelId}`,
    attempts: attempt,
    ...(status !== undefined && { status }),
  };
  const cause = new Error(`${label}, call ${attempt}: ${name}${status === undefined ? '' : ` ${status}`}`);
  const toMessage = (what: string): string => `${label} ${what}${providerMessage === '' ? '' : `: ${providerMessage}`}`;
  const toError = (what: string, retryable: boolean, more: JsonObject = {}): RpcError =>
    new RpcError('upstream_error', { message: toMessage(what), data: { ...data, ...more }, retryable, cause });
  if (notStream?.sample === '')
    return { error: toError(`sent an empty answer (${status ?? 200})`, true), retry: false };
  if (notStream !== undefined)
    return { error: toError(toNoStream(notStream, status, addressSetting), false, NOT_A_STREAM) };
  if (isCut) return { error: toError('ended its answer before it was complete', true, { sent: true }), retry: false };
  if (status === undefined && isNetwork) {
    const known = networkCode === '' ? '' : ` (${networkCode})`;
    return { error: toError(`could not be reached${known}`, true, UNSENT.test(networkCode) ? {} : { sent: true }) };
  }
  if (status === undefined) {
    if (provider === 'google' && /credentials|invalid_grant|reauth/i.test(providerMessage))
      return { error: toError(`has no valid credentials here: ${LOGIN}`, false, CREDENTIALS) };
    if (providerMessage !== '') return { error: toError('reported an error', true) };
    return { error: toError('sent an answer that could not be read', true), retry: false };
  }
  const codeAndMessage = `${code} ${providerMessage}`;
  if (status === 413 || isOverflow(codeAndMessage, status)) {
    const limitTokens = limitOf(providerMessage);
    return { error: new ContextOverflow({ label, data, providerMessage, limitTokens }), retry: false };
  }
  if (status === 402 || (status < 500 && NO_CREDIT.test(codeAndMessage)))
    return { error: toError(`reports that the account has no quota left (${status})`, false, QUOTA) };
  if (status === 401 || status === 403 || (status === 400 && WRONG_KEY.test(codeAndMessage))) {
    const whose = credential === undefined ? 'the configured credentials' : 'the credentials of the login';
    return { error: toError(`refused ${whose} (${status})`, false, CREDENTIALS) };
  }
  const isRefusedModel = status === 400 && NO_MODEL.some((form) => form.test(providerMessage));
  if (status === 404 || isRefusedModel || /model_not_found/.test(code)) {
    if (!/model/i.test(codeAndMessage) && !providerMessage.includes(modelId))
      return { error: toError(`has no such API (${status}; is ${addressSetting} right?)`, false) };
    const message = toMessage(`has no model ${modelId}, or not for this account (${status})`);
    const issues = [{ path: 'model', message }];
    return { error: new RpcError('invalid_params', { data: { ...data, issues }, cause }), retry: false };
  }
  if (status === 429) return { error: toError('rejected the call: rate limit exceeded (429)', true) };
  if (TRY_AGAIN.has(status) || status >= 500) return { error: toError(`failed (${status})`, true) };
  return { error: toError(`refused the request (${status})`, false) };
}

function toNoStream({ sample, contentType }: NotAStream, status = 200, addressSetting: string): string {
  const form = sample.startsWith('<') ? 'a web page' : 'something other than a stream of events';
  const type = contentType === '' ? '' : `, ${clean(contentType)}`;
  return `answered with ${form} (${status}${type}; is ${addressSetting} right?)`;
}

/** The provider did not answer within `waitedMs`. */
export function toTimeout(provider: string, waitedMs: number): RpcError {
  const message = `${labelOf(provider)} did not answer within ${Math.round(waitedMs) / 1_000} s`;
  return new RpcError('upstream_timeout', { message, data: { provider, sent: true } });
}

/** The answer exceeds the gateway's own bound, which is no limit of the provider. */
export function toTooLarge(provider: string, bytesMax: number): RpcError {
  const size = bytesMax >= 1 << 20 ? `${bytesMax >> 20} MiB` : `${bytesMax} bytes`;
  const message = `The answer of ${labelOf(provider)} exceeds this gateway’s limit for one turn (${size})`;
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

/** `retry-after-ms`, or `retry-after` in seconds or as a date -> milliseconds. */
function toRetryAfterMs(headers: JsonObject, now: number): number | undefined {
  const ms = Number(headers['retry-after-ms'] ?? Number.NaN);
  if (Number.isFinite(ms) && ms >= 0) return ms;
  const text = headers['retry-after'];
  if (typeof text !== 'string' || text.trim() === '') return undefined;
  const seconds = Number(text);
  const wait = Number.isFinite(seconds) ? seconds * 1_000 : Date.parse(text) - now;
  return Number.isFinite(wait) ? Math.max(0, wait) : undefined;
}
