// Sends the calls of the audit: each is repeated until an instance responds, and several run at a time.
import { setTimeout as sleep } from 'node:timers/promises';
import type { Fleet } from '../fleet/fleet.ts';
import type { Journal } from '../journal/journal.ts';
import type { Json, Session } from '../journal/journal-records.ts';
import { call } from '../traffic/call.ts';
import type { ConversationClient } from '../traffic/conversation-client.ts';

const PARALLEL = 8;
const ATTEMPTS_MAX = 6;

export interface AuditDeps {
  readonly journal: Journal;
  readonly fleet: Fleet;
  readonly clients: ReadonlyMap<string, ConversationClient>;
}

/** Calls a method on a session for its owner. */
export type Request = (session: Session, method: string, params: object) => Promise<Json | 404>;

/** Throws if there is no response in several attempts. */
export function createRequest({ fleet, clients }: Pick<AuditDeps, 'fleet' | 'clients'>): Request {
  return async (session, method, params) => {
    const client = clients.get(session.keyId);
    for (let attempt = 0; client !== undefined && attempt < ATTEMPTS_MAX; attempt++) {
      const instance = client.random.pick(fleet.instances);
      const response = await call(client, instance, method, { session_id: session.id, ...params });
      if (response?.result !== undefined) return response.result;
      if (response?.error?.code === 404) return 404;
      await sleep(200 * (attempt + 1));
    }
    throw new Error(`${method} of ${session.id} gets no response after the run`);
  };
}

/** Runs `work` for each item, PARALLEL at a time. */
export async function each<T>(items: readonly T[], work: (item: T) => Promise<void>): Promise<void> {
  const next = items.values();
  const worker = async (): Promise<void> => {
    for (const item of next) await work(item);
  };
  await Promise.all(Array.from({ length: PARALLEL }, worker));
}
