// Marks on a session's document whether the session has MCP servers or a terminal, which only companions can use. The
// admission of a prompt finds the mark without a further read: a function forwards the prompt to a companion, any of
// them, and a companion reads which servers there are. The mark is a hint: what it names may have ended.
import type { Ids } from '../../clock.ts';
import type { Ref } from '../../store/store.ts';
import { transact } from '../../store/transact.ts';
import type { TurnDeps } from '../deps.ts';
import {
  type CompanionState,
  type ConversationDocument,
  Conversations,
  conversationRef,
} from '../records/documents.ts';
import { newConversation } from '../turns/lease.ts';

export interface CompanionStateDeps extends Pick<TurnDeps, 'store' | 'cache' | 'clock' | 'retention'> {
  readonly ids: Ids;
  readonly defaultModel: string;
  /** Erases a session that is being deleted or has expired. */
  erase(ref: Ref): Promise<void>;
}

export interface SessionName {
  readonly owner: string;
  readonly sessionId: string;
}

/** Sets the mark. With `isStarted`, a session that does not exist is created with it. */
export async function markCompanionState(
  deps: CompanionStateDeps,
  { owner, sessionId }: SessionName,
  state: CompanionState,
  { isStarted }: { readonly isStarted: boolean },
): Promise<void> {
  const conversationId = deps.ids.next('conv');
  const now = new Date(deps.clock.now()).toISOString();
  const ref = conversationRef(owner, sessionId);
  const mark = () =>
    change(deps, ref, (present) => {
      const created = newConversation(owner, sessionId, conversationId, deps.defaultModel, now);
      const current = present ?? (isStarted ? deps.retention.stamp(created) : undefined);
      return current && withCompanionState(current, state, true);
    });
  if ((await mark()) !== 'expired' || !isStarted) return;
  await deps.erase(ref);
  await mark();
}

/** Removes the mark. */
export async function clearCompanionState(
  deps: CompanionStateDeps,
  { owner, sessionId }: SessionName,
  state: CompanionState,
): Promise<void> {
  const ref = conversationRef(owner, sessionId);
  await change(deps, ref, (current) => current && withCompanionState(current, state, false));
}

/** The document with or without the mark; the same object if nothing changes. */
export function withCompanionState(
  conversation: ConversationDocument,
  state: CompanionState,
  isMarked: boolean,
): ConversationDocument {
  if (isMarked === hasCompanionState(conversation, state)) return conversation;
  const others = (conversation.companion ?? []).filter((each) => each !== state);
  return { ...conversation, companion: isMarked ? [...others, state] : others };
}

export function hasCompanionState({ companion }: ConversationDocument, state: CompanionState): boolean {
  return companion?.includes(state) === true;
}

/** A session that is being erased or has expired is not changed. */
async function change(
  { store, cache }: CompanionStateDeps,
  ref: Ref,
  compute: (current: ConversationDocument | undefined) => ConversationDocument | undefined,
): Promise<'expired' | undefined> {
  const { result, snapshots } = await transact(
    store,
    [ref],
    ([snapshot]) => {
      const current = cache.read(snapshot);
      const stored = Conversations.read(snapshot);
      if (current === undefined && stored !== undefined) {
        return { writes: [], result: stored.deleted ? undefined : ('expired' as const) };
      }
      const next = compute(current);
      const isChanged = next !== undefined && next !== current;
      return { writes: isChanged ? [Conversations.write(ref, next)] : [], result: undefined };
    },
    { cached: cache.get(ref) },
  );
  cache.set(ref, snapshots[0]);
  return result;
}
