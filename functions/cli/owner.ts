// owner.export and owner.erase on the command line: all pages of an export as one NDJSON file, and an erasure to its
// end.
import { setTimeout as sleep } from 'node:timers/promises';

type Params = Readonly<Record<string, unknown>>;
type Call = (params: Params) => Promise<unknown>;

/** The text of each page, from the cursor of `params` on. */
export async function* exportPages(call: Call, params: Params): AsyncGenerator<string, void, void> {
  for (let next = params; ; ) {
    const { ndjson, next_cursor } = toFields(await call(next));
    if (typeof ndjson !== 'string') throw new Error('the gateway did not return a page of an export');
    yield ndjson;
    if (next_cursor === undefined) return;
    next = { ...params, cursor: next_cursor };
  }
}

/** Each answer until one is done. */
export async function* eraseParts(
  call: Call,
  params: Params,
  signal: AbortSignal,
): AsyncGenerator<unknown, void, void> {
  for (;;) {
    const part = await call(params);
    yield part;
    const { done, retry_after_ms: pauseMs } = toFields(part);
    if (done !== false) return;
    await sleep(typeof pauseMs === 'number' ? pauseMs : 0, undefined, { signal });
  }
}

function toFields(result: unknown): Params {
  return typeof result === 'object' && result !== null ? { ...result } : {};
}
