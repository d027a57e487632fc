// A busy owner sends steady calls to every instance at once, a little above its limit, so that they are counted in
// blocks and every undisturbed window reaches its limit.
import { setTimeout as sleep } from 'node:timers/promises';
import { call } from './call.ts';
import type { ConversationClient } from './conversation-client.ts';

/** Calls a minute: above the least for which blocks are taken. */
export const BUSY_LIMIT = 1_200;
/** On each instance: together 1.5 times the limit. */
const EVERY_MS = 100;
/** An instance that does not answer gets no more. */
const IN_FLIGHT_MAX = 10;

export async function keepBusy(client: ConversationClient, stopping: AbortSignal): Promise<void> {
  const { fleet } = client;
  const inFlight = fleet.instances.map(() => 0);
  const running = new Set<Promise<unknown>>();
  while (!stopping.aborted) {
    for (const [index, instance] of fleet.instances.entries()) {
      const count = inFlight[index] ?? 0;
      if (count >= IN_FLIGHT_MAX) continue;
      inFlight[index] = count + 1;
      const sent = call(client, instance, 'conversation.status', { session_id: 'missing' }).finally(() => {
        inFlight[index] = (inFlight[index] ?? 1) - 1;
        running.delete(sent);
      });
      running.add(sent);
    }
    await sleep(EVERY_MS, undefined, { signal: stopping }).catch(() => {});
  }
  await Promise.all(running);
}
