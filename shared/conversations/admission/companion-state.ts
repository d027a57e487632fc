// Whether a session has MCP servers or a terminal, which only companions can use, marked on the session's document. The
// admission of a prompt finds the mark without a further read: a function forwards the prompt to a companion, any of
// them, and a companion reads which servers there are. The mark is a hint: what it names may have ended.
import type { Clock, Ids } from '../../clock.ts';
import type { Ref, Store } from '../../store/store.ts';
import { transact } from '../../store/transact.ts';
import type { ConversationCache } from '../records/conversation-cache.ts';
import {
  type CompanionState,
  type ConversationDocument,
  Conversations,
  conversationRef,
} from '../records/documents.ts';
import { newConversation } from '../turns/lease.ts';

export interface CompanionStateDeps {
  readonly store: Store;
  readonly cache: ConversationCache;
  readonly clock: Clock;
  readonly ids: Ids;
  readonly defaultModel: string;
}

export interface SessionName {
  readonly owner: string;
  readonly sessionId: string;
}

/** Sets the mark. With `isStarted`, a session that does not exist is created with it. */
export function markCompanionState(
  deps: CompanionStateDeps,
  { owner, sessionId }: SessionName,
  state: CompanionState,
  { isStarted }: { readonly isStarted: boolean },
): Promise<void> {
  const conversationId = deps.ids.next('conv');
  const now = new Date(deps.clock.now()).toISOString();
  return change(deps, conversationRef(owner, sessionId), (present) => {
    const created = isStarted ? newConversation(owner, sessionId, conversationId, deps.defaultModel, now) : undefined;
    const current = present ?? created;
    return current && withCompanionState(current, state, true);
  });
}

/** Removes the mark. */
export function clearCompanionState(
  deps: CompanionStateDeps,
  { owner, sessionId }: SessionName,
  state: CompanionState,
): Promise<void> {
  const ref = conversationRef(owner, sessionId);
  return change(deps, ref, (current) => current && withCompanionState(current, state, false));
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

async function change(
  { store, cache }: CompanionStateDeps,
  ref: Ref,
  compute: (current: ConversationDocument | undefined) => ConversationDocument | undefined,
): Promise<void> {
  const { snapshots } = await transact(
    store,
    [ref],
    ([snapshot]) => {
      const stored = Conversations.read(snapshot);
      // A session that is being erased is not changed.
      const next = stored?.deleted === true ? undefined : compute(stored);
      return {
        writes: next === undefined || next === stored ? [] : [Conversations.write(ref, next)],
        result: undefined,
      };
    },
    { cached: cache.get(ref) },
  );
  cache.set(ref, snapshots[0]);
}
