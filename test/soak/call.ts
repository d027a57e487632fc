// One call as a client makes it, over HTTP, Server-Sent Events or WebSocket. Puts what the headers say into the journal, and judges every
// answer by what holds for all of them. Independent of the gateway's own client.
import { WebSocket } from 'ws';
import { isObject, toTurnEvent } from '../../shared/client/events.ts';
import type { Instance } from './fleet.ts';
import type { Journal, Json, Session } from './journal.ts';

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

/** `answer`: the response came; `left`: the client went; `broken`: the connection ended before the response. */
export type StreamEnd =
  | { readonly kind: 'answer'; readonly reply: Reply }
  | { readonly kind: 'left' | 'broken'; readonly reply?: undefined };

/** What a client does about an event: goes on (later, if it returns a promise), or leaves. */
export type OnEvent = (seq: number, turnId: string) => 'leave' | undefined | Promise<undefined>;

export interface StreamRequest {
  readonly method: 'conversation.prompt' | 'conversation.resume';
  readonly params: Json;
  readonly session: Session;
  /** The event before the first that is wanted. */
  readonly afterSeq?: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly onEvent: OnEvent;
}

const CALL_MS = 90_000;

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

/** A prompt or resume over Server-Sent Events. */
export async function stream(client: Client, instance: Instance, request: StreamRequest): Promise<StreamEnd> {
  const process = `${instance.name}${instance.life}`;
  const leaving = new AbortController();
  const take = createTaker(client, request);
  try {
    const response = await fetch(`${instance.url}/jsonrpc`, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        accept: 'text/event-stream',
        'x-api-key': client.key,
        ...request.headers,
      },
      body: JSON.stringify({ jsonrpc: '2.0', method: request.method, params: request.params, id: 1 }),
      signal: AbortSignal.any([leaving.signal, AbortSignal.timeout(CALL_MS)]),
    });
    admit(client, process, response, 1);
    if (response.headers.get('content-type')?.startsWith('text/event-stream') !== true) {
      return { kind: 'answer', reply: toReply(client, response.status, await response.json(), request.method) };
    }
    for await (const message of messagesOf(response)) {
      const next = take(message);
      if (next === 'leave') {
        leaving.abort();
        return { kind: 'left' };
      }
      if (next instanceof Promise) await next;
      else if (next !== undefined) return { kind: 'answer', reply: toReply(client, 200, next, request.method) };
    }
  } catch (error) {
    if (error instanceof SyntaxError) {
      client.journal.checks.check('errors', false, () => `${request.method}: not JSON: ${error.message}`);
    }
  }
  client.journal.count('streams cut');
  return { kind: 'broken' };
}

/** The same over a WebSocket of its own. */
export function socketStream(client: Client, instance: Instance, request: StreamRequest): Promise<StreamEnd> {
  const take = createTaker(client, request);
  return new Promise((resolve) => {
    const socket = new WebSocket(`${instance.url.replace(/^http/, 'ws')}/ws`, {
      headers: { 'x-api-key': client.key },
      handshakeTimeout: 10_000,
    });
    const timer = setTimeout(() => socket.terminate(), CALL_MS);
    const end = (outcome: StreamEnd): void => {
      clearTimeout(timer);
      socket.removeAllListeners('close');
      resolve(outcome);
      socket.terminate();
    };
    socket.on('error', () => {});
    socket.on('close', () => {
      client.journal.count('sockets cut');
      end({ kind: 'broken' });
    });
    socket.on('open', () => {
      socket.send(JSON.stringify({ jsonrpc: '2.0', method: request.method, params: request.params, id: 1 }));
    });
    socket.on('message', (data) => {
      const message: unknown = JSON.parse(String(data));
      const next = take(message);
      if (next === 'leave') end({ kind: 'left' });
      else if (next instanceof Promise) {
        socket.pause();
        void next.then(() => socket.resume());
      } else if (next !== undefined) {
        end({ kind: 'answer', reply: toReply(client, 200, next, request.method) });
      }
    });
  });
}

/** Takes one message: journals an event and asks the client what to do, or returns the response itself. */
function createTaker({ journal }: Client, { session, afterSeq = 0, onEvent }: StreamRequest) {
  let previous = afterSeq;
  return (message: unknown): ReturnType<OnEvent> | Json => {
    if (!isObject(message)) return {};
    if (message.method !== 'conversation.event') return message;
    const event = toTurnEvent({ method: message.method, params: isObject(message.params) ? message.params : {} });
    if (event === undefined) return undefined;
    journal.event(session, event, previous);
    previous = event.seq;
    return onEvent(event.seq, event.turn_id);
  };
}

/** Notes what a call was admitted with. */
function admit({ keyId, journal }: Client, process: string, { status, headers }: Response, cost: number): void {
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

async function* messagesOf(response: Response): AsyncGenerator<unknown> {
  let buffered = '';
  const decoder = new TextDecoder();
  for await (const chunk of response.body ?? []) {
    buffered += decoder.decode(chunk, { stream: true });
    for (let end = buffered.indexOf('\n\n'); end !== -1; end = buffered.indexOf('\n\n')) {
      const data = /^data: (.*)$/m.exec(buffered.slice(0, end))?.[1];
      buffered = buffered.slice(end + 2);
      if (data !== undefined) yield JSON.parse(data);
    }
  }
}
