// Sends one HTTP call of a client, records the rate limit headers in the journal and checks what must be true of every
// response. Does not use the gateway's own client. Streams are in stream.ts.
import { isObject } from '../../../shared/json/json-object.ts';
import type { Instance } from '../fleet/fleet.ts';
import type { Journal } from '../journal/journal.ts';
import type { Json } from '../journal/journal-records.ts';

export interface Client {
  readonly keyId: string;
  readonly key: string;
  readonly journal: Journal;
  /** Whether the store or an instance is away, or was a moment ago, so that a 503 is expected. */
  readonly isOutage: () => boolean;
  /** Whether a command may fail because the sandbox service is away, or was a moment ago. */
  readonly isSandboxOutage: () => boolean;
}

export interface RpcResponse {
  readonly httpStatus: number;
  readonly result: Json | undefined;
  readonly error: Json | undefined;
}

/** Longer than any turn and the queue before it. */
export const CALL_TIMEOUT_MS = 90_000;

/** One call, or a batch of `cost` of them; undefined without a response. */
export async function call(
  client: Client,
  instance: Instance,
  method: string,
  params: object,
  cost = 1,
): Promise<RpcResponse | undefined> {
  const message = { jsonrpc: '2.0', method, params, id: 1 };
  const body = cost === 1 ? message : Array.from({ length: cost }, () => message);
  const response = await post(client, instance, '/jsonrpc', JSON.stringify(body), cost);
  return response && toRpcResponse(client, response.httpStatus, response.body, method);
}

/** `body` is the parsed JSON. Undefined without a response. */
export async function post(
  client: Client,
  instance: Instance,
  path: string,
  body: string,
  cost = 1,
  headers: Readonly<Record<string, string>> = {},
): Promise<{ readonly httpStatus: number; readonly body: unknown } | undefined> {
  const process = `${instance.name}${instance.life}`;
  let response: Response;
  let text: string;
  try {
    response = await fetch(`${instance.url}${path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', 'x-api-key': client.key, ...headers },
      body,
      signal: AbortSignal.timeout(CALL_TIMEOUT_MS),
    });
    text = await response.text();
  } catch {
    client.journal.count('calls without a response');
    return undefined;
  }
  recordAdmission(client, process, response, cost);
  try {
    return { httpStatus: response.status, body: JSON.parse(text) };
  } catch {
    client.journal.checks.check('errors', false, () => `${path}: ${response.status} ${text.slice(0, 200)}`);
    return undefined;
  }
}

/** Records what a call was admitted with, from its rate limit headers. */
export function recordAdmission(
  { keyId, journal }: Client,
  process: string,
  { status, headers }: Response,
  cost: number,
): void {
  const [limit, remaining, reset] = ['limit', 'remaining', 'reset'].map((name) => headers.get(`x-ratelimit-${name}`));
  journal.count('calls');
  if (status === 429) journal.count('calls over the limit');
  if (status >= 300 || limit == null || remaining == null || reset == null) return;
  const numbers = { limit: Number(limit), remaining: Number(remaining), reset: Number(reset) };
  journal.recordAdmission({ keyId, process, ...numbers, cost });
}

/** Parses a response and checks what holds for each of them. */
export function toRpcResponse(
  { journal, isOutage, isSandboxOutage }: Client,
  httpStatus: number,
  body: unknown,
  method: string,
): RpcResponse {
  const first: unknown = Array.isArray(body) ? body[0] : body;
  const message = isObject(first) ? first : {};
  const error = isObject(message.error) ? message.error : undefined;
  const data = isObject(error?.data) ? error.data : {};
  const { checks } = journal;
  const detail = (): string => `${method}: HTTP ${httpStatus} ${JSON.stringify(error ?? body).slice(0, 300)}`;
  if (error !== undefined) journal.count(`errors ${String(data.reason)}`);
  checks.check('errors', httpStatus < 500 || httpStatus === 503, detail);
  checks.check('errors', data.reason !== 'internal', detail);
  if (httpStatus === 503 || data.reason === 'unavailable') {
    // A turn that was interrupted stays so: its error is returned at any time, not only during an outage.
    // A command that lost its sandbox says whether it may have had an effect; it is not safe to repeat then.
    const isLostCommand = typeof data.may_have_effect === 'boolean' && isSandboxOutage();
    if (!isLostCommand)
      checks.check('errors', data.retryable === true && (isOutage() || data.turn_status === 'interrupted'), detail);
  }
  return { httpStatus, result: isObject(message.result) ? message.result : undefined, error };
}
