// What the dispatcher gets with the bytes of a request, and what it returns: the contract between it and the gateway.
import type { RpcError } from '../errors.ts';
import type { Call } from './envelope.ts';
import type { CallMemory } from './in-flight.ts';
import type { AnyMethod } from './method.ts';

/** The outcome of one call, for the audit line. */
export interface CallRecord {
  readonly method: string;
  readonly outcome: 'ok' | RpcError['reason'];
  readonly durationMs: number;
  /** The failure with its cause, for the log; undefined when the call succeeded. */
  readonly error?: RpcError;
  /** What the method has added to the log line. */
  readonly details: CallDetails;
}

/** Fields for the log line of a call, wire names: ids, names and numbers, no content. Methods write to it. */
export type CallDetails = Record<string, string | number | undefined>;

/** What belongs to one call. */
export interface CallState {
  /** Counts the bytes that the call reads from other services. */
  readonly memory: CallMemory;
  readonly details: CallDetails;
  /**
   * Resolves when the limiter has admitted the call, rejects when it refuses it. Pending only in methods that
   * `startsEarly`.
   */
  readonly admitted: Promise<void>;
}

/** Limits, scopes, audit log and context of one request, bound to its caller by the gateway. */
export interface RequestHooks<Context> {
  /** Default false: a read of a store in this process takes no round trip that could run beside the limiter's. */
  readonly isStoreRemote?: boolean;
  /**
   * Charges `cost` calls, all or none, and returns the refusal (`rate_limited`, `unavailable`, `unauthorized` for a
   * revoked key), or undefined when the calls may run. Rejects when the request is aborted before the decision.
   */
  limit(cost: number, methods: readonly (AnyMethod<Context> | undefined)[]): Promise<RpcError | undefined>;
  /** Throws RpcError `forbidden` when the caller may not call this method. */
  authorize(method: AnyMethod<Context>): void;
  /** `batch`: the call is part of a batch. */
  context(method: AnyMethod<Context>, call: Call, batch: boolean, state: CallState): Context;
  /**
   * Waits for a slot of the calls that use much memory; resolves with the function that frees it. Throws `unavailable`.
   */
  place?(): Promise<() => void>;
  audit(record: CallRecord): void;
}

export interface Exchange<Context> {
  /**
   * The body, or the error of reading it (payload_too_large, unsupported_media_type); such a request is charged 1 call.
   */
  readonly body: Uint8Array | RpcError;
  /** Each call runs in an iteration of the event loop of its own, because checking its params may take long. */
  readonly isSpread?: boolean;
  readonly requestId: string;
  readonly hooks: RequestHooks<Context>;
  /** Most bytes of the answer; default HTTP_ANSWER_BYTES_MAX. */
  readonly answerBytesMax?: number;
  /** Aborted when the client has disconnected. */
  readonly signal?: AbortSignal;
  /**
   * Counts bytes that are kept until the response is sent; returns false above the bound of the instance. Default: no
   * bound.
   */
  readonly hold?: (bytes: number) => boolean;
  /** Whether another instance answers a single call of this method: it is then neither counted nor run here. */
  readonly isForwarded?: (method: AnyMethod<Context>) => boolean;
}

export interface Reply {
  /** HTTP status; other transports ignore it. */
  readonly status: number;
  /** The response, or the array of a batch's responses, as JSON text; undefined for notifications only. */
  readonly text: string | undefined;
  /**
   * The request was a refused notification: HTTP answers with a status and this text, other transports send nothing.
   */
  readonly unanswered?: true;
  /** The call that another instance answers (`isForwarded`); the other members have no meaning. */
  readonly forwarded?: Call;
}
