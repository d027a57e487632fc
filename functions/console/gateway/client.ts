// Gives the parts of the page access to the gateway: calls over HTTP; streams over the WebSocket or, where there is
// none, over HTTP. Rejects with GatewayError only.
import type * as z from 'zod/mini';
import type { Notification, TurnEvent } from '../../../shared/client/events.ts';
import { GatewayError } from '../../../shared/client/gateway-error.ts';
import { streamCall } from '../../../shared/client/transport/connection.ts';
import {
  type Call,
  callOnce,
  createEventStreams,
  type Endpoint,
  postWebhook,
} from '../../../shared/client/transport/http.ts';
import type { SocketState } from '../../../shared/client/transport/kept-socket.ts';
import { startDeadline } from '../../../shared/client/transport/timer.ts';
import { followTurn, type TurnRequest } from '../../../shared/client/turns/turn-stream.ts';
import { METHODS } from '../../../shared/protocol.ts';
import type { Value } from '../view.ts';
import { toFailure, unexpected } from './failure.ts';
import { FREE_METHODS } from './free-methods.ts';
import { createLimits, type Limits, limitedFetch } from './limits.ts';
import { connectSocket } from './link.ts';
import { Identity } from './results.ts';

export type OnNotification = (notification: Notification) => void;

export interface Client {
  readonly limits: Limits;
  /** The state of the WebSocket. */
  readonly link: Value<SocketState>;
  readonly keyId: string;
  /** One call over HTTP; its result is checked against the schema. */
  call<T>(schema: z.ZodMiniType<T>, method: string, params?: object, signal?: AbortSignal): Promise<T>;
  /** A call with the notifications that are received until its answer. */
  stream<T>(
    schema: z.ZodMiniType<T>,
    method: string,
    params: object,
    onNotification: OnNotification,
    signal: AbortSignal,
  ): Promise<T>;
  /** The events of a turn, over as many connections as it takes, then the result of the request. */
  follow(request: TurnRequest, signal: AbortSignal): AsyncGenerator<TurnEvent, unknown, void>;
  /** A call that belongs to the open WebSocket, such as a subscription. */
  attached<T>(schema: z.ZodMiniType<T>, method: string, params: object): Promise<T>;
  /** Passes every notification of the WebSocket until the returned function is called. */
  listen(onNotification: OnNotification): () => void;
  /** Resolves when the WebSocket is open, or absent. */
  settled(signal: AbortSignal): Promise<void>;
  /** Connects the WebSocket at once. */
  reconnect(): void;
  deliver(body: object): Promise<void>;
  close(): void;
}

const CALL_MS = 60_000;
const ATTACHED_MS = 30_000;
/** Longer than a turn may take: the gateway ends it. */
const STREAM_MS = 15 * 60_000;

/** Checks the key first. `onUnauthorized` is called when it is no longer valid. */
export async function openClient(key: string, onUnauthorized: () => void): Promise<Client> {
  // A header cannot carry everything that can be typed.
  if (!/^[\x21-\x7e]+$/.test(key))
    throw new GatewayError({
      reason: 'unauthorized',
      message: 'A key has only visible ASCII characters, without spaces',
    });
  const limits = createLimits();
  const endpoint: Endpoint = { url: location.origin, key, fetch: limitedFetch(limits) };
  const identity = check(Identity, await within(CALL_MS, undefined, (signal) => callOnce(endpoint, identify(signal))));
  limits.replace(
    identity.windows.map(({ window_seconds, limit, remaining, reset }) => ({
      seconds: window_seconds,
      limit,
      remaining,
      resetMs: reset * 1_000,
    })),
  );
  const observe = (error: unknown): GatewayError => {
    const failure = toFailure(error);
    if (failure.reason === 'unauthorized') onUnauthorized();
    if (failure.reason === 'rate_limited') limits.block(Date.now() + (failure.retryAfterMs ?? 1_000));
    return failure;
  };
  return createClient({ endpoint, limits, keyId: identity.key_id, observe });
}

interface ClientDeps {
  readonly endpoint: Endpoint;
  readonly limits: Limits;
  readonly keyId: string;
  /** Every failure of a call passes through it. */
  readonly observe: (error: unknown) => GatewayError;
}

function createClient({ endpoint, limits, keyId, observe }: ClientDeps): Client {
  const { link, socket, close } = connectSocket(endpoint, observe);
  const openEventStream = createEventStreams(endpoint);
  const overHttp = (method: string, params: object, signal: AbortSignal | undefined): Promise<unknown> =>
    observed(within(CALL_MS, signal, (within) => callOnce(endpoint, { method, params, signal: within })));

  async function observed<T>(work: Promise<T>): Promise<T> {
    try {
      return await work;
    } catch (error) {
      throw observe(error);
    }
  }

  async function* open(call: Call): AsyncGenerator<Notification, unknown, void> {
    try {
      await socket.settled(call.signal);
      if (socket.state === 'absent') return yield* openEventStream(call);
      if (!FREE_METHODS.has(call.method)) limits.spend();
      return yield* streamCall(socket.current(), call);
    } catch (error) {
      throw observe(error);
    }
  }

  return {
    limits,
    link,
    keyId,
    call: async (schema, method, params = {}, signal) => check(schema, await overHttp(method, params, signal)),
    stream: (schema, method, params, onNotification, signal) =>
      within(STREAM_MS, signal, async (within) => {
        const messages = open({ method, params, signal: within });
        let step = await messages.next();
        for (; step.done !== true; step = await messages.next()) onNotification(step.value);
        return check(schema, step.value);
      }),
    async *follow(request, signal) {
      const deadline = startDeadline(Number.POSITIVE_INFINITY, signal);
      const call = (sent: Call): Promise<unknown> => overHttp(sent.method, sent.params, sent.signal);
      try {
        return yield* followTurn({ open, call, deadline, retries: Number.POSITIVE_INFINITY, mayFollow }, request);
      } finally {
        deadline.end();
      }
    },
    async attached(schema, method, params) {
      if (!FREE_METHODS.has(method)) limits.spend();
      const answer = within(ATTACHED_MS, undefined, async (signal) =>
        socket.current().call({ method, params, signal }),
      );
      return check(schema, await observed(answer));
    },
    listen: (onNotification) => socket.listen(onNotification),
    settled: (signal) => socket.settled(signal),
    reconnect: () => socket.retry(),
    deliver: (body) => observed(within(CALL_MS, undefined, (signal) => postWebhook(endpoint, body, signal))),
    close,
  };
}

function identify(signal: AbortSignal): Call {
  return { method: METHODS.limits, params: {}, signal };
}

/** A turn whose connection was cut is followed; every other failure is shown. */
function mayFollow(error: unknown): error is GatewayError {
  return error instanceof GatewayError && error.reason === 'network';
}

/** Runs `work` with a deadline. */
async function within<T>(
  ms: number,
  signal: AbortSignal | undefined,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const deadline = startDeadline(ms, signal);
  try {
    return await work(deadline.signal);
  } catch (error) {
    throw toFailure(error);
  } finally {
    deadline.end();
  }
}

export function check<T>(schema: z.ZodMiniType<T>, value: unknown): T {
  const parsed = schema.safeParse(value);
  if (!parsed.success) throw unexpected(parsed.error);
  return parsed.data;
}
