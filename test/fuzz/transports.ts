// One request through each transport of a running gateway, and everything that came back for it. Connections are kept;
// a socket is opened anew when the gateway has ended it.
import { once } from 'node:events';
import { Agent, type IncomingMessage, request } from 'node:http';
import WebSocket from 'ws';

/** What one request was answered with. */
export interface Received {
  readonly transport: 'http' | 'sse' | 'ws';
  /** Of HTTP and SSE. */
  readonly status?: number;
  readonly type?: string | undefined;
  /** Messages that are no notifications, parsed, in order; a batch's response is one. */
  readonly answers: readonly unknown[];
  readonly notifications: readonly unknown[];
  /** A stream that goes on until its reader leaves was left: its response cannot come. */
  readonly left?: true;
  /** The code with which the WebSocket was ended. */
  readonly closed?: number;
}

export interface Transport {
  send(body: Buffer, headers?: Readonly<Record<string, string>>): Promise<Received>;
  close(): void;
}

/** Far beyond what any answer takes, on a machine that does much else. */
const TIMEOUT_MS = 60_000;

export function openHttp(url: string, key: string, transport: 'http' | 'sse'): Transport {
  const agent = new Agent({ keepAlive: true, maxSockets: 4 });
  const accept = transport === 'sse' ? 'application/json, text/event-stream' : 'application/json';

  const attempt = (body: Buffer, headers: Readonly<Record<string, string>>): Promise<Received> =>
    new Promise((resolve, reject) => {
      const outgoing = request(`${url}/jsonrpc`, {
        agent,
        method: 'POST',
        headers: {
          'x-api-key': key,
          'content-type': 'application/json',
          'content-length': body.length,
          accept,
          ...headers,
        },
        timeout: TIMEOUT_MS,
      });
      outgoing.once('timeout', () => outgoing.destroy(new Error(`no answer: ${body.toString().slice(0, 200)}`)));
      outgoing.once('error', (error: NodeJS.ErrnoException) => {
        // A kept connection may reach its end just as it is used again
        // (https://nodejs.org/api/http.html#requestreusedsocket).
        if (outgoing.reusedSocket && error.code === 'ECONNRESET') attempt(body, headers).then(resolve, reject);
        else reject(error);
      });
      outgoing.once('response', (response) => read(response, transport).then(resolve, reject));
      outgoing.end(body);
    });
  return { send: (body, headers = {}) => attempt(body, headers), close: () => agent.destroy() };
}

async function read(response: IncomingMessage, transport: 'http' | 'sse'): Promise<Received> {
  const { statusCode: status = 0, headers } = response;
  const type = headers['content-type'];
  const chunks: Buffer[] = [];
  const isStream = type?.startsWith('text/event-stream') === true;
  for await (const chunk of response) {
    chunks.push(chunk);
    // Only the reader ends such a stream.
    if (isStream && Buffer.concat(chunks).includes('"method":"events.subscribed"')) {
      response.destroy();
      return { transport, status, type, answers: [], notifications: [], left: true };
    }
  }
  const text = Buffer.concat(chunks).toString('utf8');
  if (!isStream) return { transport, status, type, answers: text === '' ? [] : [JSON.parse(text)], notifications: [] };
  const messages = text
    .split('\n')
    .filter((line) => line.startsWith('data: '))
    .map((line): unknown => JSON.parse(line.slice('data: '.length)));
  return { transport, status, type, ...sort(messages) };
}

/**
 * As many calls as a connection may have in flight: such a batch runs alone, so all that came before it has been
 * answered by then.
 */
const BARRIER_CALLS = 32;
/**
 * Without a response by then the call may be a notification, which the barrier shows. Its length changes only the time.
 */
const QUIET_MS = 5;

/** `url` as of HTTP. One request at a time; an answer too many is received as one of the next request. */
export function openWebSocket(url: string, key: string): Transport {
  let socket: WebSocket | undefined;
  let barriers = 0;
  let messages: unknown[] = [];
  let onMessage: (message: unknown) => void = () => {};

  const open = async (): Promise<WebSocket> => {
    const opened = await connect(url, key);
    opened.on('message', (data) => {
      const message: unknown = JSON.parse(String(data));
      messages.push(message);
      onMessage(message);
    });
    return opened;
  };

  return {
    async send(body) {
      socket ??= await open();
      const current = socket;
      const barrier = `barrier-${++barriers}`;
      const isBarrier = (message: unknown): boolean =>
        Array.isArray(message) && message.some((one) => memberOf(one, 'id') === barrier);
      let isWaiting = false;
      const closed = await new Promise<number | undefined>((resolve, reject) => {
        const timer = setTimeout(() => reject(new Error(`no answer: ${body.toString().slice(0, 200)}`)), TIMEOUT_MS);
        const quiet = setTimeout(() => {
          isWaiting = true;
          const silent = Array.from({ length: BARRIER_CALLS - 1 }, () => ({ jsonrpc: '2.0', method: 'barrier' }));
          current.send(JSON.stringify([...silent, { jsonrpc: '2.0', method: 'barrier', id: barrier }]));
        }, QUIET_MS);
        const done = (code?: number): void => {
          clearTimeout(timer);
          clearTimeout(quiet);
          current.off('close', done);
          onMessage = () => {};
          resolve(code);
        };
        onMessage = (message) => {
          if (isWaiting ? isBarrier(message) : !isNotification(message)) done();
        };
        current.once('close', done);
        current.send(body, { binary: false });
      });
      const received = sort(messages.filter((message) => !isBarrier(message)));
      messages = [];
      if (closed === undefined) return { transport: 'ws', ...received };
      socket = undefined;
      return { transport: 'ws', ...received, closed };
    },
    close: () => socket?.terminate(),
  };
}

async function connect(url: string, key: string): Promise<WebSocket> {
  const socket = new WebSocket(`${url.replace(/^http/, 'ws')}/ws`, { headers: { 'X-API-Key': key } });
  await once(socket, 'open');
  // A connection that the gateway resets is seen by its close.
  socket.on('error', () => {});
  return socket;
}

function sort(messages: readonly unknown[]): Pick<Received, 'answers' | 'notifications'> {
  return {
    answers: messages.filter((message) => !isNotification(message)),
    notifications: messages.filter(isNotification),
  };
}

function isNotification(message: unknown): boolean {
  return memberOf(message, 'method') !== undefined;
}

/** A member of what should be an object; undefined where it is none. */
export function memberOf(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null && Object.hasOwn(value, name)
    ? Reflect.get(value, name)
    : undefined;
}
