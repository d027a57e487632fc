// Charges the calls of a request, and begins the reads of a single call while the limiter counts it.
import { setImmediate as nextTurn } from 'node:timers/promises';
import { RpcError, toRpcError } from '../errors.ts';
import { type BadCall, type Call, isBad } from './envelope.ts';
import type { CallDetails, Exchange, RequestHooks } from './exchange.ts';
import { createCallMemory, overloaded } from './in-flight.ts';
import type { AnyMethod } from './method.ts';
import { PAGE_BYTES_MAX } from './page.ts';
import { readParams } from './params/read-params.ts';

/**
 * Most calls for a page, of up to 1 MiB, that begin before the limiter has decided. 20 at once made `/health` wait for
 * 320 to 630 ms, because none of them waited for its slot; with this limit it is 124 ms.
 */
const EARLY_PAGES_MAX = 2;
let earlyPages = 0;

/** The run of a call, whose result is not awaited yet. */
export interface Begun {
  readonly memory: OwnMemory;
  readonly details: CallDetails;
  readonly result: Promise<unknown>;
  /** Ignores the result, and frees the memory of the call when its run has ended. */
  drop(): void;
}

type OwnMemory = ReturnType<typeof createCallMemory>;

export async function charge<Context>(
  hooks: RequestHooks<Context>,
  cost: number,
  methods: readonly (AnyMethod<Context> | undefined)[],
): Promise<RpcError | undefined> {
  try {
    return await hooks.limit(cost, methods);
  } catch (error) {
    return toRpcError(error);
  }
}

/**
 * Charges the calls of a request. A single call of a method that `startsEarly` begins meanwhile, if the store is remote
 * and its scope and its params are valid: its first reads and the commit of the limiter then take one round trip
 * instead of two. What a refused call has begun is dropped.
 */
export async function admit<Context>(
  single: Call | BadCall | undefined,
  methods: readonly (AnyMethod<Context> | undefined)[],
  exchange: Omit<Exchange<Context>, 'body'>,
): Promise<{ readonly refused: RpcError | undefined; readonly begun?: Begun | undefined }> {
  const { hooks } = exchange;
  const decision = charge(hooks, Math.max(1, methods.length), methods);
  const [method] = methods;
  if (single === undefined || isBad(single) || method?.startsEarly !== true || hooks.isStoreRemote !== true) {
    return { refused: await decision };
  }
  // A limiter that decides from memory has done so before the next iteration of the event loop; nothing is begun then.
  const decided = await Promise.race([decision.then((refused) => ({ refused })), nextTurn()]);
  if (decided !== undefined) return decided;
  const pages = method.isBulky === true ? 1 : 0;
  if (earlyPages + pages > EARLY_PAGES_MAX) return { refused: await decision };
  earlyPages += pages;
  const begun = beginEarly(single, method, exchange, decision);
  const refused = await decision;
  earlyPages -= pages;
  if (refused !== undefined) begun?.drop();
  return { refused, begun };
}

/** Undefined if the call is not valid: it is refused when it is charged, in the usual order of the checks. */
function beginEarly<Context>(
  call: Call,
  method: AnyMethod<Context>,
  { hooks, hold = holdAll }: Omit<Exchange<Context>, 'body'>,
  decision: Promise<RpcError | undefined>,
): Begun | undefined {
  let params: Record<string, unknown>;
  try {
    hooks.authorize(method);
    params = readParams(method, call);
  } catch {
    return undefined;
  }
  const memory = createCallMemory(hold, hooks.place);
  const details: CallDetails = {};
  const admitted = decision.then((refused) => {
    if (refused !== undefined) throw refused;
  });
  const limiter = { isDecided: false, isRefused: false };
  void decision.then((refused) => Object.assign(limiter, { isDecided: true, isRefused: refused !== undefined }));
  const run = async (): Promise<unknown> => {
    if (method.isBulky === true) {
      holdPage(memory);
      await memory.place();
      if (limiter.isRefused) throw new RpcError('cancelled');
    }
    const result = await method.handle(params, hooks.context(method, call, false, { memory, details, admitted }));
    // A limiter that is slow for one owner must not keep the slots from the calls of others.
    if (!limiter.isDecided) memory.leave();
    return result;
  };
  const result = run();
  // Handled when the call is answered; a refused call has no result.
  result.catch(() => {});
  admitted.catch(() => {});
  return {
    memory,
    details,
    result,
    drop: () => void result.catch(() => {}).finally(memory.release),
  };
}

/** The size of a page is not known yet, so a full page is counted before the handler reads anything. */
export function holdPage(memory: OwnMemory): void {
  if (!memory.hold(PAGE_BYTES_MAX)) throw overloaded();
}

/** Of requests without a bound of the instance. */
export function holdAll(): boolean {
  return true;
}
