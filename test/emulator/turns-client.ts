// A JSON-RPC client of a gateway process, plain and streaming, for the tests of turns across processes.
import { setTimeout as sleep } from 'node:timers/promises';

export interface RpcAnswer {
  readonly result?: Readonly<Record<string, unknown>>;
  readonly error?: {
    readonly code: number;
    readonly message: string;
    readonly data: Readonly<Record<string, unknown>>;
  };
}

export interface StreamedEvent {
  readonly id: string;
  readonly seq: number;
  readonly event: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
}

export interface EventReader {
  readonly events: readonly StreamedEvent[];
  /** The response at the end of the stream; undefined when the connection broke first. */
  readonly answer: Promise<RpcAnswer | undefined>;
  /** Resolves when `count` events have come. */
  until(count: number): Promise<void>;
  abort(): void;
}

const KEY = 'dev-key';

export async function rpc(url: string, method: string, params: object): Promise<RpcAnswer> {
  const response = await post(url, method, params, {});
  return (await response.json()) as RpcAnswer;
}

/** Sends a call that accepts Server-Sent Events and reads them as they come. */
export function follow(
  url: string,
  method: string,
  params: object,
  headers: Readonly<Record<string, string>> = {},
): EventReader {
  const events: StreamedEvent[] = [];
  const controller = new AbortController();
  let changed = Promise.withResolvers<void>();
  let ended = false;
  const wake = (): void => {
    changed.resolve();
    changed = Promise.withResolvers<void>();
  };
  const read = async (): Promise<RpcAnswer | undefined> => {
    const accept = { accept: 'text/event-stream', ...headers };
    const response = await post(url, method, params, accept, controller.signal);
    if (response.headers.get('content-type')?.startsWith('text/event-stream') !== true) {
      return (await response.json()) as RpcAnswer;
    }
    for await (const block of blocksOf(response)) {
      const id = /^id: (.*)$/m.exec(block)?.[1] ?? '';
      const data = /^data: (.*)$/m.exec(block)?.[1];
      if (data === undefined) continue;
      const message = JSON.parse(data) as RpcAnswer & { params?: Omit<StreamedEvent, 'id'> };
      if (message.params === undefined) return message;
      events.push({ id, seq: message.params.seq, event: message.params.event });
      wake();
    }
    return undefined;
  };
  const answer = read()
    .catch(() => undefined)
    .finally(() => {
      ended = true;
      wake();
    });
  return {
    events,
    answer,
    async until(count) {
      while (events.length < count) {
        if (ended) throw new Error(`the stream ended after ${events.length} events: ${JSON.stringify(await answer)}`);
        await changed.promise;
      }
    },
    abort: () => controller.abort(),
  };
}

/** The deltas of some events, put together. */
export function textOf(events: readonly StreamedEvent[]): string {
  return events.map(({ event }) => String(event.AgentMessageDelta?.delta ?? '')).join('');
}

/** Asks until the answer satisfies `is`; the milliseconds that took. */
export async function until(ask: () => Promise<RpcAnswer>, is: (answer: RpcAnswer) => boolean): Promise<number> {
  const startMs = performance.now();
  while (!is(await ask())) await sleep(50);
  return performance.now() - startMs;
}

function post(
  url: string,
  method: string,
  params: object,
  headers: Readonly<Record<string, string>>,
  signal: AbortSignal | null = null,
): Promise<Response> {
  return fetch(`${url}/jsonrpc`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'x-api-key': KEY, ...headers },
    body: JSON.stringify({ jsonrpc: '2.0', method, params, id: 1 }),
    signal,
  });
}

async function* blocksOf(response: Response): AsyncGenerator<string> {
  let buffered = '';
  const decoder = new TextDecoder();
  for await (const chunk of response.body ?? []) {
    buffered += decoder.decode(chunk, { stream: true });
    for (let end = buffered.indexOf('\n\n'); end !== -1; end = buffered.indexOf('\n\n')) {
      yield buffered.slice(0, end);
      buffered = buffered.slice(end + 2);
    }
  }
}
