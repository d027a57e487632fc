// Binds the protocol's generic method to what our handlers get. A method is one file that exports one of these.
import type { ZodObject, ZodType } from 'zod';
import type { Caller } from '../auth/keys/keys.ts';
import type { Scope } from '../config/key-document.ts';
import type { CallMemory } from '../rpc/in-flight.ts';
import type { MethodDefinition, Registry } from '../rpc/method.ts';
import type { SharedParams } from '../rpc/notification.ts';
import type { Services } from '../services.ts';
import type { Timings } from '../timings.ts';

/** A transport that stays open between calls (WebSocket), as the methods see it. */
export interface Connection {
  /** Aborted when the connection ends. */
  readonly signal: AbortSignal;
  /**
   * What goes on after the call that began it, by id (subscriptions, terminals): the function ends it. All end with the
   * connection.
   */
  readonly streams: Map<string, () => void>;
  /**
   * Runs `work` once the response to the present message has been sent, so that a stream cannot overtake its own
   * announcement.
   */
  afterReply(work: () => void): void;
}

/** What a handler gets beside its params. */
export interface MethodContext {
  readonly services: Services;
  /** All methods of this deployment, for `rpc.discover`. */
  readonly registry: Registry<MethodContext>;
  readonly caller: Caller;
  /** Aborted when the caller's deadline passes or the process drains; a client that goes away does not abort a turn. */
  readonly signal: AbortSignal;
  readonly requestId: string;
  /** Records the phases of this request; a method that waits for a model marks that phase. */
  readonly timings: Timings;
  readonly transport: 'http' | 'sse' | 'ws';
  /** What the transport received beside the params. */
  readonly requestMetadata: {
    readonly idempotencyKey?: string;
    readonly lastEventId?: string;
    /** This gateway's WebSocket as the caller would reach it, `ws://` or `wss://`. */
    readonly socketUrl?: string;
  };
  /**
   * The call can still be forwarded to the companion: the handler may throw RunsOnCompanion before it has changed
   * anything.
   */
  readonly canForward?: boolean;
  /** Undefined on transports without a connection (HTTP, SSE). */
  readonly connection?: Connection | undefined;
  /** Bytes that the whole answer may have as JSON. */
  readonly answerBytesMax: number;
  /** For what the call reads from elsewhere and keeps until its answer is made. */
  readonly memory: CallMemory;
  /**
   * Sends a JSON-RPC notification to the caller before the response; a no-op where the transport cannot stream.
   * Resolves when the caller can take more: a source that can wait should.
   */
  notify(method: string, params: object, eventId?: string): void | Promise<void>;
  /**
   * As `notify`, for a notification whose `shared` members are sent to many readers; undefined where the transport has
   * no such way.
   */
  readonly notifyShared?:
    | ((method: string, params: object, shared: SharedParams, eventId?: string) => void | Promise<void>)
    | undefined;
}

/**
 * Declares a method; types flow from the zod schemas, and its name stays literal: the typed client finds it by that.
 */
export function defineMethod<const Name extends string, Params extends ZodObject, Result extends ZodType>(
  definition: MethodDefinition<MethodContext, Params, Result> & { readonly name: Name; readonly scope: Scope | null },
): MethodDefinition<MethodContext, Params, Result> & { readonly name: Name } {
  return definition;
}
