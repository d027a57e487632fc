// One JSON-RPC call over fetch: as JSON, or as a stream of Server-Sent Events. One attempt; the caller retries.
import { isObject } from '../../json/json-object.ts';
import { EVENT_STREAM_TYPE, HEADERS, PATHS } from '../../protocol.ts';
import type { Notification } from '../events.ts';
import { fromStatus, fromWire, GatewayError, networkError, unreachable } from '../gateway-error.ts';
import { readEvents, readText } from './read-body.ts';
import { startWatch } from './timer.ts';

export type Fetch = (url: string, init: RequestInit) => Promise<Response>;

export interface Endpoint {
  /** Base URL of the gateway, without a trailing slash. */
  readonly url: string;
  readonly key: string;
  readonly fetch: Fetch;
}

export interface Call {
  readonly method: string;
  readonly params: object;
  readonly signal: AbortSignal;
}

/**
 * Yields notifications and returns the result. Throws GatewayError; `network` if the connection ends before the
 * response.
 */
export type OpenStream = (call: Call) => AsyncGenerator<Notification, unknown, void>;

/** The gateway sends a comment every 15 s; three missing mean that the connection is dead. */
const SILENCE_MS = 50_000;
const JSON_TYPE = 'application/json';

/**
 * Returns the JSON response, also if it is an error. Throws GatewayError if the response is not JSON or nothing is
 * received.
 */
export async function postJson(endpoint: Endpoint, body: object, signal: AbortSignal): Promise<unknown> {
  const response = await post(endpoint, PATHS.jsonrpc, { body, accept: JSON_TYPE, signal });
  return readJson(response, signal);
}

/** Delivers a webhook event, authenticated by the key. Throws GatewayError. */
export async function postWebhook(endpoint: Endpoint, body: object, signal: AbortSignal): Promise<void> {
  const response = await post(endpoint, PATHS.webhook, { body, accept: JSON_TYPE, signal });
  const answer = await readJson(response, signal);
  if (!response.ok) toResult(answer, response);
}

/** The result of one call. */
export async function callOnce(endpoint: Endpoint, { method, params, signal }: Call): Promise<unknown> {
  const response = await post(endpoint, PATHS.jsonrpc, { body: toRequest(method, params), accept: JSON_TYPE, signal });
  return toResult(await readJson(response, signal), response);
}

export function createEventStreams(endpoint: Endpoint): OpenStream {
  return async function* open({ method, params, signal }) {
    const watch = startWatch(SILENCE_MS, signal);
    try {
      const body = toRequest(method, params);
      const accept = `${EVENT_STREAM_TYPE}, ${JSON_TYPE}`;
      const response = await post(endpoint, PATHS.jsonrpc, { body, accept, signal: watch.signal });
      if (!/^\s*text\/event-stream/i.test(response.headers.get('content-type') ?? '')) {
        return toResult(await readJson(response, watch.signal), response);
      }
      for await (const text of readEvents(response, watch)) {
        const message = toMessage(text);
        if ('method' in message) yield message;
        else return toResult(message.response, response);
      }
      throw networkError('the stream was cut before its end');
    } finally {
      watch.end();
    }
  };
}

/** One message of a stream: a notification, or the response. */
export function toMessage(text: string): Notification | { readonly response: unknown } {
  let message: unknown;
  try {
    message = JSON.parse(text);
  } catch (cause) {
    throw networkError('the stream sent an event that is not JSON', cause);
  }
  if (!isObject(message) || typeof message.method !== 'string') return { response: message };
  return { method: message.method, params: isObject(message.params) ? message.params : {} };
}

/** The `result` of a response; throws its error. */
export function toResult(message: unknown, http?: Response): unknown {
  if (isObject(message) && 'result' in message) return message.result;
  const error = isObject(message) ? fromWire(message.error, http) : undefined;
  if (error !== undefined) throw error;
  throw http === undefined
    ? new GatewayError({ reason: 'bad_response', message: 'the answer is not JSON-RPC' })
    : fromStatus(http);
}

function toRequest(method: string, params: object): object {
  return { jsonrpc: '2.0', method, params, id: 1 };
}

async function post(
  endpoint: Endpoint,
  path: string,
  { body, accept, signal }: { readonly body: object; readonly accept: string; readonly signal: AbortSignal },
): Promise<Response> {
  signal.throwIfAborted();
  try {
    return await endpoint.fetch(`${endpoint.url}${path}`, {
      method: 'POST',
      headers: { [HEADERS.key]: endpoint.key, 'Content-Type': JSON_TYPE, Accept: accept },
      body: JSON.stringify(body),
      // Redirects are refused, because they would send the key to another server.
      redirect: 'error',
      signal,
    });
  } catch (cause) {
    signal.throwIfAborted();
    throw unreachable(endpoint.url, cause);
  }
}

/** Parses the body of an answer. Throws GatewayError by its status when it is not JSON. */
export async function readJson(response: Response, signal: AbortSignal): Promise<unknown> {
  const text = await readText(response, signal);
  try {
    return JSON.parse(text);
  } catch {
    throw fromStatus(response);
  }
}
