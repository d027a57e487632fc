// Waits for a state of a conversation by a watch on its document, for a limited time.
import type { Ref, Store } from '../../store/store.ts';
import { type ConversationDocument, Conversations } from '../records/documents.ts';

/** Resolves when `isDone` returns true, after `timeoutMs`, or when `signal` aborts. A failing watch waits that time. */
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
