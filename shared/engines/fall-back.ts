// Decides after a failure which models may still answer the prompt: those to which its cause does not apply.
import { providerOf } from '../config/values/model-id.ts';
import type { RpcError } from '../errors.ts';

/** Statuses that concern one model, its permissions or its load. */
const OF_MODEL: ReadonlySet<unknown> = new Set([403, 404, 408, 429]);

/** Details of failures that concern the account, or the server behind its base URL. */
const OF_ACCOUNT: ReadonlySet<unknown> = new Set(['credentials', 'quota', 'not_a_stream']);

/**
 * What has failed. `account`: all models of the account fail alike. `request`: every model would refuse it, because it
 * is invalid, too long, or declined for its content.
 */
export type FailedPart = 'request' | 'account' | 'model';

export function failedPart({ reason, data, retryable }: RpcError): FailedPart {
  if (reason === 'upstream_timeout' || reason === 'unavailable' || reason === 'sandbox_unavailable') return 'model';
  if (OF_MODEL.has(data.status) && data.detail !== 'quota') return 'model';
  if (reason === 'invalid_params') return isOfModel(data) ? 'model' : 'request';
  if (OF_ACCOUNT.has(data.detail)) return 'account';
  return reason === 'upstream_error' && retryable ? 'model' : 'request';
}

/** Whether `next` may answer after this failure of `model`. */
export function mayAnswer(next: string, model: string, failed: FailedPart): boolean {
  return failed === 'model' || (failed === 'account' && accountOf(next) !== accountOf(model));
}

/** No such model, or its engine does not run here. */
function isOfModel({ issues }: RpcError['data']): boolean {
  return Array.isArray(issues) && issues.some(({ path }) => path === 'model');
}

/** Codex uses the account of OpenAI. */
function accountOf(model: string): string {
  const provider = providerOf(model);
  return provider === 'codex' ? 'openai' : provider;
}
