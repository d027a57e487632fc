// Streams a prompt or a resume over Server-Sent Events or WebSocket: each event is recorded in the journal with the
// number of the one before it on this connection. A client may disconnect, or read slowly.

import { WebSocket } from 'ws';
import { toTurnEvent } from '../../../shared/client/events.ts';
import { isObject } from '../../../shared/json/json-object.ts';
import type { Instance } from '../fleet/fleet.ts';
import type { Json, Session } from '../journal/journal-records.ts';
import { CALL_TIMEOUT_MS, type Client, type RpcResponse, recordAdmission, toRpcResponse } from './call.ts';

/**
 * `response`: the response arrived; `left`: the client disconnected; `broken`: the connection ended before the
 * response.
 */
export type StreamOutcome =
  | { readonly kind: 'response'; readonly response: RpcResponse }
  | { readonly kind: 'left' | 'broken'; readonly response?: undefined };

/** What a client does after an event: reads on (after the promise, if it returns one), or disconnects. */
export type OnEvent = (seq: number, turnId: string) => 'leave' | undefined | Promise<undefined>;

export interface StreamRequest {
  readonly method: 'conversation.prompt' | 'conversation.resume';
  readonly params: Json;
  readonly session: Session;
  /** Number of the last event that the client has. */
  readonly afterSeq?: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly onEvent: OnEvent;
}

/** A prompt or resume over Server-Sent Events. */
export async function stream(client: Client, instance: Instance, request: StreamRequest): Promise<StreamOutcome> {
  const process = `${instance.name}${instance.life}`;
  const leaving = new AbortController();
  const handle = createMessageHandler(client, request);
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
      signal: AbortSignal.any([leaving.signal, AbortSignal.timeout(CALL_TIMEOUT_MS)]),
    });
    recordAdmission(client, process, response, 1);
    if (response.headers.get('content-type')?.startsWith('text/event-stream') !== true) {
      return {
        kind: 'response',
        response: toRpcResponse(client, response.status, await response.json(), request.method),
      };
    }
    for await (const message of messagesOf(response)) {
      const next = handle(message);
      if (next === 'leave') {
        leaving.abort();
        return { kind: 'left' };
      }
      if (next instanceof Promise) await next;
      else if (next !== undefined)
        return { kind: 'response', response: toRpcResponse(client, 200, next, request.method) };
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
export function socketStream(client: Client, instance: Instance, request: StreamRequest): Promise<StreamOutcome> {
  const handle = createMessageHandler(client, request);
  return new Promise((resolve) => {
    const socket = new WebSocket(`${instance.url.replace(/^http/, 'ws')}/ws`, {
      headers: { 'x-api-key': client.key },
      handshakeTimeout: 10_000,
    });
    const timer = setTimeout(() => socket.terminate(), CALL_TIMEOUT_MS);
    const end = (outcome: StreamOutcome): void => {
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
      const next = handle(message);
      if (next === 'leave') end({ kind: 'left' });
      else if (next instanceof Promise) {
        socket.pause();
        void next.then(() => socket.resume());
      } else if (next !== undefined) {
        end({ kind: 'response', response: toRpcResponse(client, 200, next, request.method) });
      }
    });
  });
}

/** Records a message that is an event and returns what the client does next; returns a response unchanged. */
function createMessageHandler({ journal }: Client, { session, afterSeq = 0, onEvent }: StreamRequest) {
  let previous = afterSeq;
  return (message: unknown): ReturnType<OnEvent> | Json => {
    if (!isObject(message)) return {};
    if (message.method !== 'conversation.event') return message;
    const event = toTurnEvent({ method: message.method, params: isObject(message.params) ? message.params : {} });
    if (event === undefined) return undefined;
    journal.recordEvent(session, event, previous);
    previous = event.seq;
    return onEvent(event.seq, event.turn_id);
  };
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
