// A prompt or a resume as a client streams it, over Server-Sent Events or WebSocket: every event goes into the journal
// with the one before it on this connection. A client may leave, or read slowly.
import { WebSocket } from 'ws';
import { isObject, toTurnEvent } from '../../shared/client/events.ts';
import { admit, CALL_MS, type Client, type Reply, toReply } from './call.ts';
import type { Instance } from './fleet.ts';
import type { Json, Session } from './journal.ts';

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
