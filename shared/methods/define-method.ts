// Binds the generic method of shared/rpc to the context of the handlers. Each method is a file that exports one
// definition.
import type { ZodObject, ZodType } from 'zod';
import type { Caller } from '../auth/keys/keys.ts';
import type { Scope } from '../config/values/key-document.ts';
import type { CallDetails } from '../rpc/exchange.ts';
import type { CallMemory } from '../rpc/in-flight.ts';
import type { MethodDefinition, Registry } from '../rpc/method.ts';
import type { SharedParams } from '../rpc/notification.ts';
import type { Services } from '../services.ts';
import type { Ride } from '../store/ride.ts';
import type { Timings } from '../telemetry/timings.ts';

/** A transport that stays open between calls (WebSocket), as methods use it. */
export interface Connection {
  /** Aborted when the connection ends. */
  readonly signal: AbortSignal;
  /**
   * Streams that outlive the call that started them, by id (subscriptions, terminals); calling the function ends one.
   * All end with the connection.
   */
  readonly streams: Map<string, () => void>;
  /**
   * Runs `work` after the response to the current message is sent, so that a stream does not start before its response.
   */
  afterReply(work: () => void): void;
}

/** The context of a handler. */
export interface MethodContext {
  readonly services: Services;
  /** All methods of this deployment, for `rpc.discover`. */
  readonly registry: Registry<MethodContext>;
  readonly caller: Caller;
  /**
   * Aborted when the caller's deadline passes or the process drains; a client that disconnects does not abort a turn.
   */
  readonly signal: AbortSignal;
  readonly requestId: string;
  /** Records the phases of this request; a method that waits for a model marks that phase. */
  readonly timings: Timings;
  readonly transport: 'http' | 'sse' | 'ws';
  /** Values that the transport received in addition to the params. */
  readonly requestMetadata: {
    readonly idempotencyKey?: string;
    readonly lastEventId?: string;
    /** The public address of `/ws`, `ws://` or `wss://`. */
    readonly socketUrl?: string;
  };
  /**
   * The call can still be forwarded to the companion: the handler may throw RunsOnCompanion before it has changed
   * anything.
   */
  readonly canForward?: boolean;
  /** Undefined on transports without a connection (HTTP, SSE). */
  readonly connection?: Connection | undefined;
  /** Most bytes of the response as JSON. */
  readonly answerBytesMax: number;
  /** Counts the memory that the call uses until its response is serialised. */
  readonly memory: CallMemory;
  readonly details: CallDetails;
  /**
   * Resolves when the limiter has admitted the call; awaited before the first effect of a method that `startsEarly`.
   */
  readonly admitted: Promise<void>;
  /** Carries the first commit of a prompt with the one that counts it. Absent where nothing is gained by it. */
  readonly ride?: Ride | undefined;
  /**
   * Sends a JSON-RPC notification to the caller before the response; a no-op if the transport cannot stream. Resolves
   * when the caller can receive more; sources should wait for it.
   */
  notify(method: string, params: object, eventId?: string): void | Promise<void>;
  /**
   * Like `notify`, for a notification whose `shared` members are sent to many readers; undefined if the transport does
   * not support it.
   */
  readonly notifyShared?:
    | ((method: string, params: object, shared: SharedParams, eventId?: string) => void | Promise<void>)
    | undefined;
}

/**
 * Declares a method. Its types are inferred from the zod schemas; its name has a literal type, which the typed client
 * uses.
 */
export function defineMethod<const Name extends string, Params extends ZodObject, Result extends ZodType>(
  definition: MethodDefinition<MethodContext, Params, Result> & { readonly name: Name; readonly scope: Scope | null },
): MethodDefinition<MethodContext, Params, Result> & { readonly name: Name } {
  return definition;
}
