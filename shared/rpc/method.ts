// What the protocol uses of a method: its name, its schemas, who may call it and what it costs. The transport-free
// core is generic over the context that handlers get; methods/define-method.ts binds it.
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
   * `free`: costs no call (within a bound that no client reaches); for what clients send while a user types, or to
   * learn what they may do. `read`: cheap, may be admitted by the per-instance bucket while the limiter's store is
   * down. `work`: costs money, runs a command or changes something: fails closed with 503.
   */
  readonly cost: 'free' | 'read' | 'work';
  /** Where every call runs; the jsonrpc function forwards what runs on the companion. Default: `local`. */
  readonly runs?: Place;
  /**
   * Decides it for one call instead. The handler of such a method may also find out later that it must run on the
   * companion (`canForward` of its context).
   */
  placeOf?(params: z.output<Params>, context: Context): Place | Promise<Place>;
  /** A call holds up to some megabytes while it makes its answer: few of them run at a time on an instance. */
  readonly isBulky?: true;
  /**
   * Over SSE a call lasts as long as its reader, which must bound the number of such calls: it takes no place of a
   * batch.
   */
  readonly isEndless?: true;
  /** What the machine must provide; where it does not, `rpc.discover` reports it and the handler answers 403. */
  readonly needs?: 'sandbox';
  readonly params: Params;
  readonly result: Result;
  /** Reasons of errors.ts this method itself answers, beyond those every call can meet. */
  readonly errors?: readonly Reason[];
  readonly example: { readonly params: z.input<Params>; readonly result: z.input<Result> };
  handle(params: z.output<Params>, context: Context): Promise<z.input<Result>>;
}

/** A method with its schema types erased, as a registry holds it. */
export type AnyMethod<Context> = MethodDefinition<Context, ZodObject, ZodType>;

/** Methods by wire name. A Map, so that `__proto__` and `constructor` are just unknown names. */
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

/** Whether a call of the method changes nothing and costs little: it may pass while the limiter's store is down. */
export function isReadOnly({ cost, needs }: Pick<AnyMethod<unknown>, 'cost' | 'needs'>): boolean {
  return cost === 'read' || (cost === 'free' && needs === undefined);
}
