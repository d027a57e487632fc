// A method as the protocol uses it: name, schemas, scope and cost. This module is generic over the context of the
// handlers; methods/define-method.ts binds the context.
import type { ZodObject, ZodType, z } from 'zod';
import type { Reason } from '../errors.ts';

/** Where a call runs: on the instance that received it, or on the companion, which may start processes. */
export type Place = 'local' | 'companion';

export interface MethodDefinition<Context, Params extends ZodObject = ZodObject, Result extends ZodType = ZodType> {
  /** Wire name, e.g. `conversation.prompt`; also the file's name. */
  readonly name: string;
  /** One line for OpenRPC, the README and the console. */
  readonly summary: string;
  /** Scope a key needs; `null`: any authenticated caller. */
  readonly scope: string | null;
  /**
   * `free`: not counted by the limiter (within a bound that no client reaches); for keystrokes of a user, and for
   * clients that read their limits. `read`: cheap; the per-instance bucket may admit it while the limiter's store is
   * down. `work`: costs money, runs a command or changes data; answered 503 while the store is down.
   */
  readonly cost: 'free' | 'read' | 'work';
  /** Where every call runs; the jsonrpc function forwards what runs on the companion. Default: `local`. */
  readonly runs?: Place;
  /**
   * Decides per call instead. The handler may also decide later that the call must run on the companion (`canForward`
   * of its context).
   */
  placeOf?(params: z.output<Params>, context: Context): Place | Promise<Place>;
  /** A call runs a turn, which continues when its client has disconnected. */
  readonly isTurn?: true;
  /** A call uses several megabytes while it builds its response, so an instance runs only a few of them at a time. */
  readonly isBulky?: true;
  /**
   * Over SSE a call lasts until its client disconnects. It takes no slot of a batch; the handler bounds the number of
   * such calls.
   */
  readonly isEndless?: true;
  /**
   * A single call begins while the limiter counts it, so that its first reads cost no round trip of their own. The
   * handler only reads until `admitted` of its context resolves; what it returns or throws for a refused call is
   * dropped.
   */
  readonly startsEarly?: true;
  /**
   * Capability that the machine must have; without it `rpc.discover` reports the method as unavailable and the handler
   * answers 403.
   */
  readonly needs?: 'sandbox';
  readonly params: Params;
  readonly result: Result;
  /** Reasons of errors.ts that this method returns, in addition to those that any call can return. */
  readonly errors?: readonly Reason[];
  readonly example: { readonly params: z.input<Params>; readonly result: z.input<Result> };
  handle(params: z.output<Params>, context: Context): Promise<z.input<Result>>;
}

/** A method in a registry, with its schema types erased. */
export type AnyMethod<Context> = MethodDefinition<Context, ZodObject, ZodType>;

/** Methods by wire name. A Map, so that `__proto__` and `constructor` are unknown names like any other. */
export type Registry<Context> = ReadonlyMap<string, AnyMethod<Context>>;

/** Builds a registry; throws on a name that is taken, empty or reserved. */
export function createRegistry<Context>(methods: readonly AnyMethod<Context>[]): Registry<Context> {
  const registry = new Map<string, AnyMethod<Context>>();
  for (const method of methods) {
    if (registry.has(method.name)) throw new Error(`method ${method.name} is defined twice`);
    registry.set(method.name, method);
  }
  return registry;
}

/**
 * Whether a call of the method changes nothing and is cheap; the per-instance bucket may admit it while the limiter's
 * store is down.
 */
export function isReadOnly({ cost, needs }: Pick<AnyMethod<unknown>, 'cost' | 'needs'>): boolean {
  return cost === 'read' || (cost === 'free' && needs === undefined);
}
