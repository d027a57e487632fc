// The calls of one socket that are being answered, text and binary alike: each goes through the gateway, and what comes
// of it leaves in the form it came in. Ends what belongs to the connection when that ends; turns are not among it, they
// go on.

import type { Caller } from '../../shared/auth/keys/keys.ts';
import { RpcError } from '../../shared/errors.ts';
import type { Gateway } from '../../shared/gateway.ts';
import { errorFields } from '../../shared/log.ts';
import type { Connection, MethodContext } from '../../shared/methods/define-method.ts';
import type { FrameCall } from '../../shared/proto/frames.ts';
import { CLOSE } from '../../shared/protocol.ts';
import { MESSAGE_BYTES_MAX } from '../../shared/rpc/answers.ts';
import type { SharedParams } from '../../shared/rpc/notification.ts';
import type { Services } from '../../shared/services.ts';

/** What a binary answer of the largest size has as JSON, in base64; its own size is checked once it is made. */
const FRAME_ANSWER_BYTES_MAX = 2 * MESSAGE_BYTES_MAX;

export interface CallsOwner {
  readonly caller: Caller;
  /** A string leaves as a text message, bytes as a binary one. Resolves when a source may go on. */
  send(message: string | Uint8Array): void | Promise<void>;
  notify(method: string, params: object): void | Promise<void>;
  notifyShared(method: string, params: object, shared: SharedParams): void | Promise<void>;
  close(code: number, reason: string): void;
  /** A call has been answered. */
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

  /** Answers one message: JSON-RPC as text, a Frame of gateway.proto as bytes. Never rejects. */
  async answer(message: Buffer, isBinary: boolean, refuseWith?: RpcError): Promise<void> {
    const owner = this.#owner;
    const call = new AbortController();
    this.#inFlight.add(call);
    let later: (() => void)[] | undefined;
    let sent: Promise<void> | undefined;
    const held = this.#gateway.hold(owner.caller);
    try {
      const frame = isBinary ? await readFrame(message) : undefined;
      const requestId = this.#nextRequestId();
      const reply = await this.#gateway.handle({
        caller: owner.caller,
        body: frame === undefined ? message : frame.body,
        requestId,
        transport: 'ws',
        signal: call.signal,
        notify: frame === undefined ? this.#notify : (method, params) => this.#notifyFrame(frame, method, params),
        notifyShared: this.#notifyShared,
        connection: {
          signal: this.#ended.signal,
          streams: this.#streams,
          afterReply(work) {
            later ??= [];
            later.push(work);
          },
        },
        ...(frame && { answerBytesMax: FRAME_ANSWER_BYTES_MAX }),
        ...(refuseWith && { refuseWith }),
        held,
      });
      if (reply.text !== undefined && reply.unanswered !== true) {
        sent = owner.send(frame === undefined ? reply.text : frame.toAnswer(reply.text, requestId)) ?? undefined;
      }
      if (reply.refusal?.reason === 'unauthorized') owner.close(CLOSE.policy, 'the key is revoked');
    } catch (error) {
      // Every failure of a method is answered; what comes here is a defect of ours.
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

  /** The connection has ended. */
  end(): void {
    const gone = new RpcError('cancelled', { message: 'the connection has ended' });
    this.#ended.abort(gone);
    for (const call of this.#inFlight) call.abort(gone);
    for (const stop of this.#streams.values()) stop();
  }

  #notifyFrame(frame: FrameCall, method: string, params: object): void | Promise<void> {
    const event = frame.toEvent(method, params);
    return event === undefined ? this.#notify(method, params) : this.#owner.send(event);
  }
}

/** Protobuf is loaded by the first binary message: most processes never see one. */
async function readFrame(message: Uint8Array): Promise<FrameCall> {
  const frames = await import('../../shared/proto/frames.ts');
  return frames.readFrame(message);
}

/**
 * Ids like any request's, which share all but the last 8 digits within a connection: drawing each anew would cost more
 * than parsing it.
 */
function createRequestIds(first: string): () => string {
  const prefix = first.slice(0, -8);
  let count = 0;
  return () => prefix + (count++ >>> 0).toString(16).padStart(8, '0');
}
