// The gateway as the parts of the page see it: calls over HTTP, streams over the WebSocket or, where there is none,
// over HTTP too.

import * as z from 'zod/mini';
import { METHODS, PATHS } from '../../shared/protocol.ts';
import { Failure, toFailure, unexpected } from './failure.ts';
import { type CallOptions, createHttp, type OnNotification } from './http.ts';
import { createLimits, type Limits } from './limits.ts';
import { createSocket, type Link } from './socket.ts';
import type { Value } from './view.ts';

export interface Client {
  readonly limits: Limits;
  readonly link: Value<Link>;
  readonly keyId: string;
  /** One call over HTTP; its result is checked against the schema. Rejects with Failure only, like everything here. */
  call<T>(schema: z.ZodMiniType<T>, method: string, params?: object, options?: CallOptions): Promise<T>;
  /** A call with notifications; these come to `onNotification` when they are about `isMine`. */
  stream<T>(
    schema: z.ZodMiniType<T>,
    method: string,
    params: object,
    onNotification: OnNotification,
    options?: CallOptions,
  ): Promise<T>;
  /** A call that belongs to the open WebSocket, such as a subscription. */
  attached<T>(schema: z.ZodMiniType<T>, method: string, params: object): Promise<T>;
  listen(onNotification: OnNotification): () => void;
  settled(signal?: AbortSignal): Promise<void>;
  retry(): void;
  deliver(body: object): Promise<void>;
  refreshLimits(): Promise<void>;
  close(): void;
}

const Identity = z.object({
  key_id: z.string(),
  windows: z.array(
    z.object({ window_seconds: z.number(), limit: z.number(), remaining: z.number(), reset: z.number() }),
  ),
});
const Ticket = z.object({ protocols: z.array(z.string()) });
const ATTACHED_MS = 30_000;

/** Checks the key first. `onUnauthorized` is called when it is no longer valid. */
export async function openClient(key: string, onUnauthorized: () => void): Promise<Client> {
  // A header cannot carry everything that can be typed.
  if (!/^[\x21-\x7e]+$/.test(key)) throw new Failure({ reason: 'unauthorized', message: 'This is not a key' });
  const limits = createLimits();
  const http = createHttp(key, limits);
  const identify = async (): Promise<string> => {
    const { key_id, windows } = check(Identity, await http.call(METHODS.limits, {}));
    limits.replace(
      windows.map(({ window_seconds, limit, remaining, reset }) => ({
        seconds: window_seconds,
        limit,
        remaining,
        resetMs: reset * 1_000,
      })),
    );
    return key_id;
  };
  const keyId = await identify();
  const watchKey = <T>(work: Promise<T>): Promise<T> =>
    work.catch((error: unknown) => {
      const failure = toFailure(error);
      if (failure.reason === 'unauthorized') onUnauthorized();
      throw failure;
    });
  const socket = createSocket({
    url: socketUrl(),
    limits,
    openTicket: async () => check(Ticket, await http.call(METHODS.ticket, {})).protocols,
    onUnauthorized,
  });

  return {
    limits,
    keyId,
    link: socket.link,
    call: (schema, method, params = {}, options) =>
      watchKey(http.call(method, params, options).then((result) => check(schema, result))),
    async stream(schema, method, params, onNotification, options) {
      await socket.settled(options?.signal);
      if (socket.link.current === 'absent') {
        return watchKey(http.stream(method, params, onNotification, options).then((result) => check(schema, result)));
      }
      const leave = socket.listen(onNotification);
      try {
        return check(schema, await socket.call(method, params, options));
      } finally {
        leave();
      }
    },
    attached: async (schema, method, params) =>
      check(schema, await socket.call(method, params, { timeoutMs: ATTACHED_MS })),
    listen: socket.listen,
    settled: socket.settled,
    retry: socket.retry,
    deliver: (body) => watchKey(http.deliver(body)),
    refreshLimits: () => watchKey(identify().then(() => {})),
    close: socket.close,
  };
}

function check<T>(schema: z.ZodMiniType<T>, value: unknown): T {
  const parsed = schema.safeParse(value);
  if (!parsed.success) throw unexpected();
  return parsed.data;
}

/** Beside this page, or the URL that the build wrote into the page. */
function socketUrl(): string {
  const configured = document.querySelector<HTMLMetaElement>('meta[name="gateway-socket"]')?.content;
  if (configured) return configured;
  return `${location.protocol === 'https:' ? 'wss' : 'ws'}://${location.host}${PATHS.socket}`;
}
