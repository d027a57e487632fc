// Turns what Codex says of a failed turn into the errors of the table. What the provider said is shown only where it is about the request,
// cut short; never a URL, a header or a key.
import { RpcError } from '../../errors.ts';
import type { TurnFailure } from './protocol.ts';
import { UNREACHABLE } from './relay.ts';

const DETAIL_CHARS_MAX = 300;
const RETRY_AFTER_MS = 5_000;

/** Errors of names (`modelNotFound`), or of a name with the provider's status (`{httpConnectionFailed: {httpStatusCode}}`). */
export function toError(failure: TurnFailure | null, model: string): RpcError {
  const { kind, status: told } = inspect(failure?.codexErrorInfo);
  const isUnreachable = told === UNREACHABLE;
  const status = isUnreachable ? undefined : told;
  const said = failure?.message ?? '';
  const data = { provider: 'codex', ...(status === undefined ? {} : { status }) };
  const cause = new Error(`codex: ${kind}${status === undefined ? '' : ` ${status}`}`);
  const fail = (message: string, retryable: boolean): RpcError =>
    new RpcError('upstream_error', {
      message,
      data,
      retryable,
      cause,
      ...(retryable && { retryAfterMs: RETRY_AFTER_MS }),
    });
  if (isUnreachable) return fail('OpenAI could not be reached', true);
  if (status === 401 || status === 403 || kind === 'unauthorized')
    return fail(`OpenAI refused the configured credentials (${status ?? 401})`, false);
  if (status === 404 || kind === 'modelNotFound') {
    const issues = [{ path: 'model', message: `OpenAI has no model ${model}, or not for this account` }];
    return new RpcError('invalid_params', { data: { ...data, issues }, cause });
  }
  if (kind === 'usageLimitExceeded') return fail('OpenAI: the account has no quota left', false);
  if (status === 429 || kind === 'rateLimitExceeded') return fail('OpenAI is limiting the rate of calls (429)', true);
  if (kind === 'contextWindowExceeded')
    return fail('The conversation does not fit into the model’s context any more', false);
  if (kind === 'internalServerError' || kind === 'serverOverloaded' || (status !== undefined && status >= 500))
    return fail(`OpenAI failed${status === undefined ? '' : ` (${status})`}`, true);
  if (kind === 'responseStreamDisconnected' || said.startsWith('stream disconnected'))
    return fail('OpenAI cut its answer short', true);
  if (kind === 'httpConnectionFailed' || kind === 'responseStreamConnectionFailed')
    return fail('OpenAI could not be reached', true);
  if (kind === 'badRequest' || said.startsWith('{')) return fail(`OpenAI refused the request${detail(said)}`, false);
  return fail('Codex could not complete the turn', false);
}

function inspect(info: unknown): { readonly kind: string; readonly status: number | undefined } {
  if (typeof info === 'string') return { kind: info, status: undefined };
  if (typeof info !== 'object' || info === null) return { kind: 'other', status: undefined };
  const [entry] = Object.entries(info);
  const status: unknown =
    typeof entry?.[1] === 'object' && entry[1] !== null ? Reflect.get(entry[1], 'httpStatusCode') : undefined;
  return { kind: entry?.[0] ?? 'other', status: typeof status === 'number' ? status : undefined };
}

/** The `error.message` of the provider's JSON. */
function detail(said: string): string {
  try {
    const body: unknown = JSON.parse(said);
    const error: unknown = typeof body === 'object' && body !== null ? Reflect.get(body, 'error') : undefined;
    const message: unknown = typeof error === 'object' && error !== null ? Reflect.get(error, 'message') : undefined;
    if (typeof message !== 'string' || message === '') return '';
    const clean = message.replace(/\s+/g, ' ').replace(/\b(?:sk-|Bearer )[\w.*-]*/g, '[redacted]');
    return `: ${clean.slice(0, DETAIL_CHARS_MAX)}`;
  } catch {
    return '';
  }
}
