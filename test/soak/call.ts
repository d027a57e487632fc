// One call as a client makes it. Puts what the headers say into the journal, and judges every answer by what holds for
// all of them. Independent of the gateway's own client. Streams are in stream.ts.
import { isObject } from '../../shared/client/events.ts';
import type { Instance } from './fleet.ts';
import type { Journal, Json } from './journal.ts';

export interface Client {
  readonly keyId: string;
  readonly key: string;
  readonly journal: Journal;
  /** Whether something is broken, or was a moment ago, that makes a 503 the right answer. */
  readonly isDisturbed: () => boolean;
}

export interface Reply {
  readonly httpStatus: number;
  readonly result: Json | undefined;
  readonly error: Json | undefined;
}

/** No call takes longer: a turn, and the queue before it. */
export const CALL_MS = 90_000;

/** One call, or a batch of `cost` of them; undefined when no answer came. */
export async function call(
  client: Client,
  instance: Instance,
  method: string,
  params: object,
  cost = 1,
): Promise<Reply | undefined> {
  const one = { jsonrpc: '2.0', method, params, id: 1 };
  const body = cost === 1 ? one : Array.from({ length: cost }, () => one);
  const found = await post(client, instance, '/jsonrpc', JSON.stringify(body), cost);
  return found && toReply(client, found.httpStatus, found.body, method);
}

/** `body` is JSON as it came. Undefined when no answer came. */
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
      signal: AbortSignal.timeout(CALL_MS),
    });
    text = await response.text();
  } catch {
    client.journal.count('calls without an answer');
    return undefined;
  }
  admit(client, process, response, cost);
  try {
    return { httpStatus: response.status, body: JSON.parse(text) };
  } catch {
    client.journal.checks.check('errors', false, () => `${path}: ${response.status} ${text.slice(0, 200)}`);
    return undefined;
  }
}

/** Notes what a call was admitted with. */
export function admit({ keyId, journal }: Client, process: string, { status, headers }: Response, cost: number): void {
  const [limit, remaining, reset] = ['limit', 'remaining', 'reset'].map((name) => headers.get(`x-ratelimit-${name}`));
  journal.count('calls');
  if (status === 429) journal.count('calls over the limit');
  if (status >= 300 || limit == null || remaining == null || reset == null) return;
  const numbers = { limit: Number(limit), remaining: Number(remaining), reset: Number(reset) };
  journal.admitted({ keyId, process, ...numbers, cost });
}

/** Any answer, by what holds for all of them. */
export function toReply({ journal, isDisturbed }: Client, httpStatus: number, body: unknown, method: string): Reply {
  const first: unknown = Array.isArray(body) ? body[0] : body;
  const message = isObject(first) ? first : {};
  const error = isObject(message.error) ? message.error : undefined;
  const data = isObject(error?.data) ? error.data : {};
  const { checks } = journal;
  const told = (): string => `${method}: HTTP ${httpStatus} ${JSON.stringify(error ?? body).slice(0, 300)}`;
  if (error !== undefined) journal.count(`errors ${String(data.reason)}`);
  checks.check('errors', httpStatus < 500 || httpStatus === 503, told);
  checks.check('errors', data.reason !== 'internal', told);
  if (httpStatus === 503 || data.reason === 'unavailable') {
    // A turn whose owner was lost says so whenever it is asked.
    checks.check('errors', data.retryable === true && (isDisturbed() || data.turn_status === 'interrupted'), told);
  }
  return { httpStatus, result: isObject(message.result) ? message.result : undefined, error };
}
