// Runs the calls of one socket: passes each to the gateway, and sends its notifications and response in the format of
// the request (text or binary). When the connection ends, its streams end; turns continue.
import type { Caller } from '../../shared/auth/keys/keys.ts';
import { RpcError } from '../../shared/errors.ts';
import type { GatewayRequest } from '../../shared/exchange.ts';
import type { Gateway, GatewayReply } from '../../shared/gateway.ts';
import { errorFields } from '../../shared/log.ts';
import type { Connection, MethodContext } from '../../shared/methods/define-method.ts';
import { CLOSE, PATHS } from '../../shared/protocol.ts';
import type { Held } from '../../shared/rpc/in-flight.ts';
import type { SharedParams } from '../../shared/rpc/notification.ts';
import type { Services } from '../../shared/services.ts';
import { inTrace } from '../../shared/telemetry/trace.ts';

export interface CallsOwner {
  readonly caller: Caller;
  /** Sends a string as a text message, bytes as a binary message. Resolves when more may be sent. */
  send(message: string | Uint8Array): void | Promise<void>;
  notify(method: string, params: object): void | Promise<void>;
  notifyShared(method: string, params: object, shared: SharedParams): void | Promise<void>;
  close(code: number, reason: string): void;
  /** Called when a call has been answered. */
  settled(): void;
}

export class Calls {
  readonly #services: Services;
  readonly #gateway: Gateway;
  readonly #owner: CallsOwner;
  readonly #inFlight = new Set<AbortController>();
  readonly #ended = new AbortController();
  readonly #streams: Connection['streams'] = new Map();
  readonly #notify: MethodContext['notify'];
  readonly #notifyShared: MethodContext['notifyShared'];
  readonly #nextRequestId: () => string;

  constructor(services: Services, gateway: Gateway, owner: CallsOwner) {
    this.#services = services;
    this.#gateway = gateway;
    this.#owner = owner;
    this.#notify = (method, params) => owner.notify(method, params);
    this.#notifyShared = (method, params, shared) => owner.notifyShared(method, params, shared);
    this.#nextRequestId = createRequestIds(services.ids.next('req'));
  }

  get size(): number {
    return this.#inFlight.size;
  }

  /** Runs one message and sends its response: JSON-RPC as text, or a Frame of gateway.proto as bytes. Never rejects. */
  async answer(message: Buffer, isBinary: boolean, refuseWith?: RpcError): Promise<void> {
    const { tracer } = this.#services;
    if (tracer === undefined) return this.#answer(message, isBinary, refuseWith);
    const span = tracer.start('WebSocket message', { kind: 'server', attributes: { 'http.route': PATHS.socket } });
    await inTrace(span.trace, () => this.#answer(message, isBinary, refuseWith));
    span.end();
  }

  async #answer(message: Buffer, isBinary: boolean, refuseWith: RpcError | undefined): Promise<void> {
    const owner = this.#owner;
    const call = new AbortController();
    this.#inFlight.add(call);
    let later: (() => void)[] | undefined;
    let sent: Promise<void> | undefined;
    const held = this.#gateway.hold(owner.caller);
    try {
      const shared: Omit<GatewayRequest, 'body'> = {
        caller: owner.caller,
        requestId: this.#nextRequestId(),
        transport: 'ws',
        signal: call.signal,
        notify: this.#notify,
        notifyShared: this.#notifyShared,
        connection: {
          signal: this.#ended.signal,
          streams: this.#streams,
          afterReply(work) {
            later ??= [];
            later.push(work);
          },
        },
        ...(refuseWith && { refuseWith }),
        held,
      };
      const reply = isBinary ? await this.#callFrame(message, shared, held) : await this.#callText(message, shared);
      if (reply.message !== undefined) sent = owner.send(reply.message) ?? undefined;
      if (reply.refusal?.reason === 'unauthorized') owner.close(CLOSE.policy, 'the key is revoked');
    } catch (error) {
      // The gateway converts every failure of a method to a response, so an error here is a bug of the gateway.
      this.#services.log.error('a message could not be handled', errorFields(error));
      owner.close(CLOSE.internal, 'internal error');
    } finally {
      this.#inFlight.delete(call);
      if (sent === undefined) held.release();
      else void sent.then(held.release);
      if (later !== undefined) for (const work of later) work();
      owner.settled();
    }
  }

  /** Aborts all calls and streams; call it when the connection has ended. */
  end(): void {
    const gone = new RpcError('cancelled', { message: 'the connection has ended' });
    this.#ended.abort(gone);
    for (const call of this.#inFlight) call.abort(gone);
    for (const stop of this.#streams.values()) stop();
  }

  async #callText(body: Buffer, shared: Omit<GatewayRequest, 'body'>): Promise<CallReply> {
    const { text, unanswered, refusal } = await this.#gateway.handle({ ...shared, body });
    return { message: unanswered === true ? undefined : text, refusal };
  }

  /** Protobuf is loaded at the first binary message, because most processes never receive one. */
  async #callFrame(bytes: Buffer, shared: Omit<GatewayRequest, 'body'>, held: Held): Promise<CallReply> {
    const { readFrame } = await import('../../shared/proto/frames.ts');
    const frame = readFrame(bytes, held.add);
    const notify: MethodContext['notify'] = (method, params) => {
      const event = frame.toEvent(method, params);
      return event === undefined ? this.#notify(method, params) : this.#owner.send(event);
    };
    return this.#gateway.handleCall({ ...shared, notify }, frame.call, frame.answers(shared.requestId));
  }
}

interface CallReply extends Pick<GatewayReply, 'refusal'> {
  readonly message: string | Uint8Array | undefined;
}

/**
 * Request ids in the usual format. Within a connection, they differ only in the last 8 digits, because generating
 * random digits for each would cost more than parsing the message.
 */
function createRequestIds(first: string): () => string {
  const prefix = first.slice(0, -8);
  let count = 0;
  return () => prefix + (count++ >>> 0).toString(16).padStart(8, '0');
}
