// What a session has in the companion's memory, as a mark on its document: the admission of a prompt sees it without a
// read of its own, on whatever instance, and sends the prompt there. The mark is a hint: what it names may have ended.
import type { Clock, Ids } from '../../clock.ts';
import type { Ref, Store } from '../../store/store.ts';
import { transact } from '../../store/transact.ts';
import type { ConversationCache } from '../records/conversation-cache.ts';
import { type ConversationDocument, conversationRef, type Held } from '../records/documents.ts';
import { newConversation } from '../turns/lease.ts';

export interface MarkDeps {
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

/** Puts the mark; `isStarted`: on a session that does not exist yet too, which begins with it. */
export function hold(deps: MarkDeps, session: SessionName, held: Held, isStarted: boolean): Promise<void> {
  const { owner, sessionId } = session;
  const conversationId = deps.ids.next('conv');
  const now = new Date(deps.clock.now()).toISOString();
  return change(deps, conversationRef(owner, sessionId), (present) => {
    const current =
      present ?? (isStarted ? newConversation(owner, sessionId, conversationId, deps.defaultModel, now) : undefined);
    return current && withHeld(current, held, true);
  });
}

/** Takes the mark away. */
export function release(deps: MarkDeps, { owner, sessionId }: SessionName, held: Held): Promise<void> {
  return change(deps, conversationRef(owner, sessionId), (current) => current && withHeld(current, held, false));
}

/** The document with or without the mark; the same object when it says so already. */
export function withHeld(conversation: ConversationDocument, held: Held, isHeld: boolean): ConversationDocument {
  const others = (conversation.companion ?? []).filter((each) => each !== held);
  if (isHeld === holds(conversation, held)) return conversation;
  return { ...conversation, companion: isHeld ? [...others, held] : others };
}

export function holds({ companion }: ConversationDocument, held: Held): boolean {
  return companion?.includes(held) === true;
}

async function change(
  { store, cache }: MarkDeps,
  ref: Ref,
  compute: (current: ConversationDocument | undefined) => ConversationDocument | undefined,
): Promise<void> {
  const { snapshots } = await transact(
    store,
    [ref],
    ([snapshot]) => {
      const stored = snapshot?.data as ConversationDocument | undefined;
      // One that is being erased is left to it.
      const next = stored?.deleted === true ? undefined : compute(stored);
      return { writes: next === undefined || next === stored ? [] : [{ ref, data: next }], result: undefined };
    },
    { cached: cache.get(ref) },
  );
  cache.set(ref, snapshots[0]);
}
