// Requests to the sandbox service: opens the link if needed, validates the result, and converts errors to those that
// callers receive.
import type { z } from 'zod';
import { bounded, orAbort, pause } from '../../async.ts';
import type { GatewayLink } from '../link/connect/connect-link.ts';
import type { LinkKeeper } from '../link/connect/link-keeper.ts';
import type { Link } from '../link/link.ts';
import { broken, notReached, silent, toFailure } from './failures.ts';

/** How long a call waits for a lost connection to be resumed before it fails as not started. */
const RECONNECT_MS = 5_000;
const RECONNECT_CHECK_MS = 50;
/** Calls share one wait per link, so that they continue in their order. */
const reconnecting = new WeakMap<Link, Promise<void>>();

/**
 * Returns a connected link. A call that gets none has started nothing. Rejects with RpcError `unavailable` if the
 * service cannot be reached, and with the signal's reason when it aborts.
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
  /** Name of the call in errors, for example "The command". */
  readonly what: string;
  readonly signal?: AbortSignal;
  /** How long to wait for the answer. Default 38 s; Infinity: until `signal` aborts, or the link is over. */
  readonly timeoutMs?: number;
}

/** Rejects with the errors of failures.ts, and with the signal's reason when it aborts. */
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
