// The queue that one turn reads: notifications of Codex and events of the gateway's own, in order. Bounded.
import type { MessagePart } from '../../messages/message-parts.ts';
import type { EngineEvent } from '../../turn-events.ts';
import type { Notification } from './protocol/protocol.ts';

const QUEUE_MAX = 100_000;
/** Maximum characters of the notifications that wait; a single one may be as long as a line. */
const QUEUE_CHARS_MAX = 64 << 20;

/** A notification of the app-server, or an event of a tool call that the gateway runs for it, with its part. */
export type InboxItem = Notification | { readonly event: EngineEvent; readonly part?: MessagePart };

export interface Inbox {
  /** `chars`: its approximate size in memory; default 0. */
  push(item: InboxItem, chars?: number): void;
  fail(error: Error): void;
  /** The next item. Throws the signal's reason, or the error given to `fail` once all items are read. */
  next(signal: AbortSignal): Promise<InboxItem>;
}

/** `tooMany`: the failure when notifications are not read. */
export function createInbox(tooMany: () => Error): Inbox {
  const queue: { readonly item: InboxItem; readonly chars: number }[] = [];
  let queuedChars = 0;
  let failure: Error | undefined;
  let wake = (): void => {};
  return {
    push(item, chars = 0) {
      if (queue.length < QUEUE_MAX && queuedChars + chars <= QUEUE_CHARS_MAX) {
        queue.push({ item, chars });
        queuedChars += chars;
      } else failure ??= tooMany();
      wake();
    },
    fail(error) {
      failure ??= error;
      wake();
    },
    async next(signal) {
      for (;;) {
        signal.throwIfAborted();
        const first = queue.shift();
        if (first !== undefined) {
          queuedChars -= first.chars;
          return first.item;
        }
        if (failure !== undefined) throw failure;
        await new Promise<void>((resolve) => {
          const woken = (): void => {
            signal.removeEventListener('abort', woken);
            wake = (): void => {};
            resolve();
          };
          wake = woken;
          signal.addEventListener('abort', woken, { once: true });
        });
      }
    },
  };
}
