// Converts Codex's report of a failed turn to an RpcError. The message contains the provider's message, if there is
// one, as one bounded line without URLs, headers or keys.
import { RpcError } from '../../errors.ts';
import { ContextOverflow } from '../failures/context-overflow.ts';
import { isOverflow, limitOf } from '../failures/overflow.ts';
import { readProviderMessage } from '../failures/provider-message.ts';
import type { TurnFailure } from './protocol/protocol.ts';
import { LOST, NOT_A_STREAM, UNREACHABLE } from './relay/relay.ts';

const RETRY_AFTER_MS = 5_000;
/** The status that a failure within a stream means: the status of its response was 200. */
const STATUS_OF_KIND: ReadonlyMap<string, number> = new Map([
  ['unauthorized', 401],
  ['modelNotFound', 404],
  ['rateLimitExceeded', 429],
  ['internalServerError', 500],
  ['serverOverloaded', 503],
]);
const NO_CREDIT = /insufficient[ _]?(?:quota|funds|balance|credits?)|billing|payment required|out of credits/i;

/**
 * An error is a name (`modelNotFound`), or a name with the provider's status (`{httpConnectionFailed:
 * {httpStatusCode}}`). `secrets` are removed from the provider's message.
 */
export function toError(failure: TurnFailure | null, model: string, secrets: readonly string[] = []): RpcError {
  const report = failure?.message ?? '';
  const { kind, status: reported = statusIn(report) } = inspect(failure?.codexErrorInfo);
  const isUnreachable = reported === UNREACHABLE || reported === LOST;
  const isNoStream = reported === NOT_A_STREAM;
  const status = isUnreachable ? undefined : isNoStream ? 200 : (reported ?? STATUS_OF_KIND.get(kind));
  const providerMessage = providerMessageOf(report, secrets);
  const data = { provider: 'codex', model: `codex/${model}`, ...(status === undefined ? {} : { status }) };
  const cause = new Error(`codex: ${kind}${status === undefined ? '' : ` ${status}`}`);
  const fail = (what: string, retryable: boolean, more = {}): RpcError =>
    new RpcError('upstream_error', {
      message: `${what}${providerMessage === '' ? '' : `: ${providerMessage}`}`,
      data: { ...data, ...more },
      retryable,
      cause,
      ...(retryable && { retryAfterMs: RETRY_AFTER_MS }),
    });
  const failShort = (message: string, more = {}): RpcError => {
    const retryAfterMs = RETRY_AFTER_MS;
    return new RpcError('upstream_error', {
      message,
      data: { ...data, ...more },
      retryable: true,
      cause,
      retryAfterMs,
    });
  };
  if (isUnreachable) return failShort('OpenAI could not be reached', reported === LOST ? { sent: true } : {});
  if (isNoStream)
    return fail(
      'OpenAI answered with something other than a stream of events (200; is OPENAI_BASE_URL right?)',
      false,
      {
        detail: 'not_a_stream',
      },
    );
  if (kind === 'contextWindowExceeded' || isOverflow(providerMessage, status))
    return new ContextOverflow({ label: 'OpenAI', data, providerMessage, limitTokens: limitOf(providerMessage) });
  if (kind === 'usageLimitExceeded' || status === 402 || NO_CREDIT.test(providerMessage))
    return fail(
      `OpenAI reports that the account has no quota left${status === undefined ? '' : ` (${status})`}`,
      false,
      { detail: 'quota' },
    );
  if (status === 401 || status === 403 || kind === 'unauthorized')
    return fail(`OpenAI refused the configured credentials (${status})`, false, { detail: 'credentials' });
  if (kind === 'modelNotFound' || (status === 404 && /model/i.test(providerMessage))) {
    const { message } = fail(`OpenAI has no model ${model}, or not for this account`, false);
    return new RpcError('invalid_params', { data: { ...data, issues: [{ path: 'model', message }] }, cause });
  }
  if (status === 404) return fail('OpenAI has no such API (404; is OPENAI_BASE_URL right?)', false);
  if (status === 429 || kind === 'rateLimitExceeded')
    return fail('OpenAI rejected the call: rate limit exceeded (429)', true);
  if (kind === 'internalServerError' || kind === 'serverOverloaded' || (status !== undefined && status >= 500))
    return fail(`OpenAI failed${status === undefined ? '' : ` (${status})`}`, true);
  if (report.startsWith('stream disconnected') && providerMessage !== '')
    return fail('OpenAI failed', true, { sent: true });
  if (kind === 'responseStreamDisconnected' || report.startsWith('stream disconnected'))
    return failShort('OpenAI ended its answer before it was complete', { sent: true });
  if (kind === 'httpConnectionFailed' || kind === 'responseStreamConnectionFailed')
    return failShort('OpenAI could not be reached', { sent: true });
  if (kind === 'badRequest' || report.startsWith('{') || (status !== undefined && status >= 400))
    return fail('OpenAI refused the request', false);
  return fail('Codex could not complete the turn', false);
}

function inspect(info: unknown): { readonly kind: string; readonly status?: number } {
  if (typeof info === 'string') return { kind: info };
  if (typeof info !== 'object' || info === null) return { kind: 'other' };
  const [entry] = Object.entries(info);
  const status: unknown =
    typeof entry?.[1] === 'object' && entry[1] !== null ? Reflect.get(entry[1], 'httpStatusCode') : undefined;
  return { kind: entry?.[0] ?? 'other', ...(typeof status === 'number' && { status }) };
}

function statusIn(report: string): number | undefined {
  const [, digits] = /(?:unexpected status|last status:) (\d{3})/.exec(report) ?? [];
  return digits === undefined ? undefined : Number(digits);
}

/** Messages of Codex itself about the end of a stream; other messages come from the provider. */
const CUT = /^(?:stream closed|idle timeout|response\.failed|failed to parse|incomplete|error |transport|websocket)/i;

/**
 * The provider's message, without the text that Codex adds:
 * `unexpected status 402 Payment Required: MESSAGE, url: http://127.0.0.1:1/...`,
 * `stream disconnected before completion: MESSAGE`.
 */
function providerMessageOf(report: string, secrets: readonly string[]): string {
  if (report.startsWith('exceeded retry limit')) return '';
  const [, reason] = /^stream disconnected[^:]*(?:: (.*))?$/s.exec(report) ?? [undefined, undefined];
  if (report.startsWith('stream disconnected') && (reason === undefined || CUT.test(reason))) return '';
  const [, framed = reason] = /^unexpected status \d{3}[^:]*: (.*)$/s.exec(report) ?? [];
  return readProviderMessage((framed ?? report).replace(/,? (?:url|request id|cf-ray): \S+/g, ''), secrets).text;
}
