// Keeps the stream open on which a server of the stateless era announces changes of its tools. Servers of the older era
// announce them without a subscription.
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from '@modelcontextprotocol/client';

const ACKNOWLEDGE_MS = 10_000;
const PAUSE_MS = 1_000;
const PAUSE_MS_MAX = 60_000;
/** Consecutive refusals of the stream. */
const REFUSALS_MAX = 5;

/** Resolves when the connection is closed or the server refuses the stream. Never rejects. */
export async function listenForChanges(client: Client, onToolsChanged: () => void, over: AbortSignal): Promise<void> {
  if (client.getProtocolEra() !== 'modern' || client.getServerCapabilities()?.tools?.listChanged !== true) return;
  let refusals = 0;
  for (let isFirst = true; !over.aborted && refusals < REFUSALS_MAX; isFirst = false) {
    try {
      const stream = await client.listen({ toolsListChanged: true }, { timeout: ACKNOWLEDGE_MS, signal: over });
      refusals = 0;
      // The server announced no change while no stream was open.
      if (!isFirst) onToolsChanged();
      await stream.closed;
    } catch {
      refusals++;
    }
    const pauseMs = Math.min(PAUSE_MS * 2 ** refusals, PAUSE_MS_MAX);
    await sleep(pauseMs, undefined, { signal: over, ref: false }).catch(() => {});
  }
}
