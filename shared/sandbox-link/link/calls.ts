// Requests and notifications of a link in both directions: JSON-RPC 2.0 in control messages. Bounds the running and
// pending requests, and the size of responses.

import { isReason, RpcError, toRpcError } from '../../errors.ts';
import { isObject, type JsonObject } from '../../json/json-object.ts';
import { errorFields, type Logger } from '../../log.ts';
import type { Channel } from './channel.ts';
import { type Handlers, type Link, REQUESTS_MAX } from './link.ts';
import { isCount, LINK_METHODS, toControlText, Violation } from './wire.ts';

interface Pending {
  resolve(result: unknown): void;
  reject(error: unknown): void;
}

export interface CallsDeps {
  readonly channel: Pick<Channel, 'sendControl' | 'busy' | 'ended'>;
  readonly handlers: Handlers;
  readonly log: Logger;
}

export class Calls {
  readonly #deps: CallsDeps;
  readonly #pending = new Map<number, Pending>();
  /** Running requests of the other side by their id, and its notifications by a unique symbol. */
  readonly #running = new Map<number | symbol, AbortController>();
  #nextId = 1;

  constructor(deps: CallsDeps) {
    this.#deps = deps;
  }

  /** Requests in flight, of both sides. */
  get size(): number {
    return this.#pending.size + this.#running.size;
  }

  async request(method: string, params: unknown, signal?: AbortSignal): Promise<unknown> {
    const { channel } = this.#deps;
    signal?.throwIfAborted();
    if (channel.ended !== undefined) throw channel.ended;
    if (this.#pending.size >= REQUESTS_MAX || channel.busy) throw tooMany();
    const id = this.#nextId++;
    channel.sendControl(toControlText({ id, method, params }));
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    this.#pending.set(id, { resolve, reject });
    const onAbort = (): void => {
      channel.sendControl(toControlText({ method: LINK_METHODS.cancel, params: { id } }));
      reject(signal?.reason);
    };
    signal?.addEventListener('abort', onAbort, { once: true });
    // Sending this message may have ended the link, if too much is unacknowledged.
    if (channel.ended !== undefined) reject(channel.ended);
    try {
      return await promise;
    } finally {
      signal?.removeEventListener('abort', onAbort);
      this.#pending.delete(id);
    }
  }

  notify(method: string, params: unknown): void {
    this.#deps.channel.sendControl(toControlText({ method, params }));
  }

  /** Handles a control message that is not about a stream. Throws Violation. */
  control(message: JsonObject, link: Link): void {
    const { id, method, params } = message;
    if (method === undefined) this.#settle(message);
    else if (typeof method !== 'string' || (id !== undefined && !isCount(id))) {
      throw new Violation('a control message is neither a request nor a response');
    } else if (method === LINK_METHODS.cancel) {
      const cancelled = isObject(params) && isCount(params.id) ? params.id : -1;
      this.#running.get(cancelled)?.abort(new RpcError('cancelled'));
    } else if (id !== undefined && this.#running.has(id)) throw new Violation('two requests have the same id');
    else if (id !== undefined) void this.#answer(id, method, params, link);
    else if (this.#running.size >= REQUESTS_MAX) throw new Violation('too many notifications');
    else void this.#notified(method, params, link);
  }

  end(error: RpcError): void {
    for (const { reject } of this.#pending.values()) reject(error);
    for (const controller of this.#running.values()) controller.abort(error);
  }

  /** Settles the request of a response. A cancelled request is no longer pending, so its response is ignored. */
  #settle({ id, result, error }: JsonObject): void {
    const pending = isCount(id) ? this.#pending.get(id) : undefined;
    if (error === undefined) pending?.resolve(result);
    else pending?.reject(fromWire(error));
  }

  async #answer(id: number, method: string, params: unknown, link: Link): Promise<void> {
    let text: string;
    try {
      if (this.#running.size >= REQUESTS_MAX) throw tooMany();
      const result = await this.#run(id, method, params, link);
      text = toControlText({ id, result: result ?? null });
    } catch (thrown) {
      const error = toRpcError(thrown);
      if (error.reason === 'internal') this.#failed(method, error);
      text = errorText(id, error);
    }
    this.#deps.channel.sendControl(text);
  }

  async #notified(method: string, params: unknown, link: Link): Promise<void> {
    try {
      await this.#run(Symbol(method), method, params, link);
    } catch (thrown) {
      const error = toRpcError(thrown);
      if (error.reason === 'internal') this.#failed(method, error);
    }
  }

  async #run(id: number | symbol, method: string, params: unknown, link: Link): Promise<unknown> {
    const { handlers } = this.#deps;
    const handle = Object.hasOwn(handlers, method) ? handlers[method] : undefined;
    if (handle === undefined) throw new RpcError('method_not_found');
    const controller = new AbortController();
    this.#running.set(id, controller);
    try {
      return await handle(params, { link, signal: controller.signal });
    } finally {
      this.#running.delete(id);
    }
  }

  #failed(method: string, error: unknown): void {
    this.#deps.log.error('a call of the sandbox link failed', { method: method.slice(0, 100), ...errorFields(error) });
  }
}

function tooMany(): RpcError {
  return new RpcError('unavailable', {
    message: `At most ${REQUESTS_MAX} calls may be in flight between the gateway and the sandbox`,
    retryAfterMs: 1_000,
  });
}

/** Serializes an error, without its details if they do not fit. */
function errorText(id: number, error: RpcError): string {
  try {
    return toControlText({ id, error: error.toWire('') });
  } catch {
    const { reason, retryable, retryAfterMs } = error;
    const short = new RpcError(reason, { retryable, ...(retryAfterMs !== undefined && { retryAfterMs }) });
    return toControlText({ id, error: short.toWire('') });
  }
}

/** Returns the error of the other side; `internal` if its reason is unknown. */
function fromWire(error: unknown): RpcError {
  const { message, data } = isObject(error) ? error : {};
  const { reason, retryable, retry_after_ms: retryAfterMs, request_id: _, ...rest } = isObject(data) ? data : {};
  if (typeof reason !== 'string' || !isReason(reason)) {
    return new RpcError('internal', { cause: new Error('an error of the sandbox link has no known reason') });
  }
  return new RpcError(reason, {
    ...(typeof message === 'string' && { message }),
    ...(typeof retryable === 'boolean' && { retryable }),
    ...(isCount(retryAfterMs) && { retryAfterMs }),
    data: rest,
  });
}
