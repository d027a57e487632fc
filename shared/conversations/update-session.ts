// conversation.update: changes the title, the metadata and the retention of a session, also while a turn runs.
import type { Ref } from '../store/store.ts';
import { transact } from '../store/transact.ts';
import type { TurnDeps } from './deps.ts';
import { type ConversationDocument, Conversations } from './records/documents.ts';
import { type SessionChanges, withChanges } from './records/session-fields.ts';

/** The session after the change; undefined when it is missing, another key's, or being erased. */
export async function updateSession(
  { store, cache, retention }: Pick<TurnDeps, 'store' | 'cache' | 'retention'>,
  ref: Ref,
  changes: SessionChanges,
): Promise<ConversationDocument | undefined> {
  const isEmpty = Object.values(changes).every((change) => change === undefined);
  const { result, snapshots } = await transact(
    store,
    [ref],
    ([snapshot]) => {
      const current = cache.read(snapshot);
      if (current === undefined || isEmpty) return { writes: [], result: current };
      const changed = retention.stamp(withChanges(current, changes));
      return { writes: [Conversations.write(ref, changed)], result: changed };
    },
    { cached: cache.get(ref) },
  );
  cache.set(ref, snapshots[0]);
  return result;
}
