// Waits for a conversation to come into a state, by watching its document; never longer than asked.
import type { Ref, Store } from '../../store/store.ts';
import { type ConversationDocument, Conversations } from '../records/documents.ts';

/** Resolves when `isDone` says so, the time is up or `signal` aborts; a failing watch just waits the time out. */
export function awaitConversation(
  store: Store,
  ref: Ref,
  timeoutMs: number,
  isDone: (conversation: ConversationDocument | undefined) => boolean,
  signal?: AbortSignal,
): Promise<void> {
  return new Promise((resolve) => {
    let unwatch: (() => void) | undefined;
    let done = false;
    const finish = (): void => {
      done = true;
      clearTimeout(timer);
      signal?.removeEventListener('abort', finish);
      unwatch?.();
      resolve();
    };
    const timer = setTimeout(finish, timeoutMs);
    if (signal?.aborted) return finish();
    signal?.addEventListener('abort', finish, { once: true });
    const onState = (conversation: ConversationDocument | undefined): void => {
      if (!done && isDone(conversation)) finish();
    };
    unwatch = Conversations.watch(store, ref, onState, () => {});
    if (done) unwatch();
  });
}
