// Keeps a subscription open on which servers of the modern protocol era (stateless) send tools/list_changed. Servers of
// the older era send it without a subscription.
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from '@modelcontextprotocol/client';

const ACKNOWLEDGE_MS = 10_000;
const PAUSE_MS = 1_000;
const PAUSE_MS_MAX = 60_000;
/** After this many consecutive failures, the subscription is given up. */
const FAILURES_MAX = 5;

/** Resolves when `signal` aborts (the connection was closed) or the server refuses the subscription. Never rejects. */
export async function listenForChanges(client: Client, onToolsChanged: () => void, signal: AbortSignal): Promise<void> {
  if (client.getProtocolEra() !== 'modern' || client.getServerCapabilities()?.tools?.listChanged !== true) return;
  let failures = 0;
  for (let isFirst = true; !signal.aborted && failures < FAILURES_MAX; isFirst = false) {
    try {
      const stream = await client.listen({ toolsListChanged: true }, { timeout: ACKNOWLEDGE_MS, signal });
      failures = 0;
      // Changes while no subscription was open were not announced, so report one.
      if (!isFirst) onToolsChanged();
      await stream.closed;
    } catch {
      failures++;
    }
    const pauseMs = Math.min(PAUSE_MS * 2 ** failures, PAUSE_MS_MAX);
    await sleep(pauseMs, undefined, { signal, ref: false }).catch(() => {});
  }
}
