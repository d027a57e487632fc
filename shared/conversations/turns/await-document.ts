// Waits for a state of a document by a watch, for a limited time.
import type { DocumentType } from '../../store/define-document.ts';
import type { Ref, Store } from '../../store/store.ts';
import { type ConversationDocument, Conversations } from '../records/documents.ts';

/** Resolves when `isDone` returns true, after `timeoutMs`, or when `signal` aborts. A failing watch waits that time. */
export function awaitDocument<T extends object>(
  type: Pick<DocumentType<T>, 'watch'>,
  store: Store,
  ref: Ref,
  timeoutMs: number,
  isDone: (document: T | undefined) => boolean,
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
    const onState = (document: T | undefined): void => {
      if (!done && isDone(document)) finish();
    };
    unwatch = type.watch(store, ref, onState, () => {});
    if (done) unwatch();
  });
}

export function awaitConversation(
  store: Store,
  ref: Ref,
  timeoutMs: number,
  isDone: (conversation: ConversationDocument | undefined) => boolean,
  signal?: AbortSignal,
): Promise<void> {
  return awaitDocument(Conversations, store, ref, timeoutMs, isDone, signal);
}
