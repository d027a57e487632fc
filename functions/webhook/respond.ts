// Ends every request of the webhook function with one response and one log line.
import type { OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { CredentialError } from '../../shared/auth/wrong-credentials.ts';
import { isReason, type RpcError, toRpcError } from '../../shared/errors.ts';
import { errorFields, type Logger, severityOf } from '../../shared/log.ts';
import { sendError, sendJson } from '../server/http.ts';

/** Facts of a request that the response and the log line contain, also when it fails afterwards. */
export interface Progress {
  headers: OutgoingHttpHeaders;
  /** For the log. */
  fields: object;
}

export interface Outcome {
  /** For the log: what was done. */
  readonly outcome: string;
  readonly status: number;
  readonly body: object;
}

type Respond = (
  res: ServerResponse,
  requestId: string,
  work: (progress: Progress) => Promise<Outcome>,
) => Promise<void>;

/**
 * The returned function runs `work`, logs one line and sends the response. It logs no CredentialError, because
 * wrong-credentials.ts has logged it.
 */
export function createResponder(log: Logger): Respond {
  const audit = (requestId: string, outcome: string, startedMs: number, fields: object): void => {
    const ms = Math.round((performance.now() - startedMs) * 1_000) / 1_000;
    const severity = isReason(outcome) ? severityOf(outcome) : 'INFO';
    log.log(severity, 'webhook', { request_id: requestId, outcome, ms, ...fields });
  };

  return async (res, requestId, work) => {
    const startedMs = performance.now();
    const progress: Progress = { headers: {}, fields: {} };
    try {
      const { outcome, status, body } = await work(progress);
      audit(requestId, outcome, startedMs, progress.fields);
      sendJson(res, status, body, progress.headers);
    } catch (thrown) {
      const error = toRpcError(thrown);
      if (!(error instanceof CredentialError)) {
        audit(requestId, error.reason, startedMs, { ...progress.fields, ...causeOf(error) });
      }
      sendError(res, error, requestId, progress.headers);
    }
  };
}

function causeOf(error: RpcError): object {
  return error.cause === undefined || error.reason === 'unauthorized' ? {} : errorFields(error.cause);
}
