// Requests to the sandbox service: the link opened when there is none, the answer checked by its schema, the error as
// callers receive it.
import type { z } from 'zod';
import { bounded, orAbort, pause } from '../../async.ts';
import type { GatewayLink } from '../link/connect-link.ts';
import type { Link } from '../link/link.ts';
import type { LinkKeeper } from '../link/link-keeper.ts';
import { broken, notReached, silent, toFailure } from './failures.ts';

/** A call whose link is cut waits for so long before it counts as not started. */
const RECONNECT_MS = 5_000;
const RECONNECT_CHECK_MS = 50;
/** One wait for each link that is cut, so that its calls go on in their order. */
const reconnecting = new WeakMap<Link, Promise<void>>();

/**
 * A link that is connected, so that a call which finds none has started nothing. Rejects with RpcError `unavailable`
 * when the service cannot be reached, the signal's reason when it aborts.
 */
export async function openLink(keeper: LinkKeeper, signal?: AbortSignal): Promise<GatewayLink> {
  try {
    const link = keeper.link ?? (await keeper.open(signal));
    const wait = reconnecting.get(link) ?? (link.connected ? undefined : reconnect(link));
    if (wait !== undefined) await orAbort(wait, signal);
    // Meanwhile it may be over, or replaced.
    return keeper.link ?? (await keeper.open(signal));
  } catch (error) {
    signal?.throwIfAborted();
    throw notReached(error);
  }
}

async function reconnect(link: Link): Promise<void> {
  const startedMs = performance.now();
  const wait = (async () => {
    while (!link.connected && !link.over.aborted) {
      if (performance.now() - startedMs > RECONNECT_MS) throw new Error('the link is cut');
      await pause(RECONNECT_CHECK_MS);
    }
  })();
  reconnecting.set(link, wait);
  try {
    await wait;
  } finally {
    reconnecting.delete(link);
  }
}

/** The service answers within it, also where it starts a process or ends one. */
const ANSWER_MS = 38_000;

export interface CallOptions<T> {
  readonly answer: z.ZodType<T>;
  /** Names the call in errors, as in "The command". */
  readonly what: string;
  readonly signal?: AbortSignal;
  /** How long to wait for the answer. Default 38 s; Infinity: until `signal` aborts, or the link is over. */
  readonly timeoutMs?: number;
}

/** Rejects as said in failures.ts, and with the signal's reason when it aborts. */
export async function call<T>(
  link: Link,
  method: string,
  params: object,
  { answer, what, signal, timeoutMs = ANSWER_MS }: CallOptions<T>,
): Promise<T> {
  let result: unknown;
  try {
    result =
      timeoutMs === Number.POSITIVE_INFINITY
        ? await link.request(method, params, signal)
        : await bounded({ signal, timeoutMs, toTimeout: () => silent(what) }, (bounds) =>
            link.request(method, params, bounds.signal),
          );
  } catch (error) {
    signal?.throwIfAborted();
    throw toFailure(error, link, what);
  }
  const parsed = answer.safeParse(result);
  if (parsed.error !== undefined) throw broken(what, parsed.error);
  return parsed.data;
}
