// Requests to the sandbox service: the link opened when there is none, the answer checked by its schema, the error as
// callers receive it.
import type { z } from 'zod';
import type { GatewayLink } from '../link/connect-link.ts';
import type { Link } from '../link/link.ts';
import type { LinkKeeper } from '../link/link-keeper.ts';
import { broken, notReached, toFailure } from './failures.ts';

/** Rejects with RpcError `unavailable` when the service cannot be reached, the signal's reason when it aborts. */
export async function openLink(keeper: LinkKeeper, signal?: AbortSignal): Promise<GatewayLink> {
  try {
    return await keeper.open(signal);
  } catch (error) {
    signal?.throwIfAborted();
    throw notReached(error);
  }
}

export interface CallOptions<T> {
  readonly answer: z.ZodType<T>;
  /** Names the call in errors, as in "The command". */
  readonly what: string;
  readonly signal?: AbortSignal;
}

/** Rejects as said in failures.ts, and with the signal's reason when it aborts. */
export async function call<T>(
  link: Link,
  method: string,
  params: object,
  { answer, what, signal }: CallOptions<T>,
): Promise<T> {
  let result: unknown;
  try {
    result = await link.request(method, params, signal);
  } catch (error) {
    signal?.throwIfAborted();
    throw toFailure(error, link, what);
  }
  const parsed = answer.safeParse(result);
  if (parsed.error !== undefined) throw broken(what, parsed.error);
  return parsed.data;
}
