// Binds the protocol's generic method to what our handlers get. A method is one file that exports one of these.
import type { ZodObject, ZodType } from 'zod';
import type { Caller, Scope } from '../auth/keys.ts';
import type { MethodDefinition, Registry } from '../rpc/method.ts';
import type { Services } from '../services.ts';

/** What a handler gets beside its params. */
export interface MethodContext {
  readonly services: Services;
  /** All methods of this deployment, for `rpc.discover`. */
  readonly registry: Registry<MethodContext>;
  readonly caller: Caller;
  /** Aborted when the caller's deadline passes or the process drains; a client that goes away does not abort a turn. */
  readonly signal: AbortSignal;
  readonly requestId: string;
  readonly transport: 'http' | 'sse' | 'ws';
  /** What the transport said beside the params. */
  readonly hints: { readonly idempotencyKey?: string; readonly lastEventId?: string };
  /**
   * Sends a JSON-RPC notification to the caller before the response; a no-op where the transport cannot stream. Resolves when the
   * caller can take more: a source that can wait should.
   */
  notify(method: string, params: object, eventId?: string): void | Promise<void>;
}

/** Declares a method; types flow from the zod schemas. */
export function defineMethod<Params extends ZodObject, Result extends ZodType>(
  definition: MethodDefinition<MethodContext, Params, Result> & { readonly scope: Scope | null },
): MethodDefinition<MethodContext, Params, Result> {
  return definition;
}
