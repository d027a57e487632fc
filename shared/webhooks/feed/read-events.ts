// Reads stored webhook events in the order of their arrival.
import type { Store } from '../../store/store.ts';
import { type EventDocument, Events } from '../documents.ts';

/** Events of the first read. Later reads have about PAGE_CHARS in total, because a slow reader keeps them in memory. */
const PAGE_FIRST = 4;
const PAGE_MAX = 20;
const PAGE_CHARS = 512 << 10;

export interface FeedEntry {
  readonly id: string;
  readonly document: EventDocument;
}

/** Stored events by arrival, page by page, strictly after a position. */
export async function* readEvents(
  store: Store,
  start: { readonly value: number; readonly id: string },
  event: string | undefined,
): AsyncGenerator<FeedEntry, void, void> {
  let after = start;
  let limit = PAGE_FIRST;
  for (;;) {
    const where = event === undefined ? {} : { where: { event } };
    const found = await store.query(Events.query({ orderBy: 'received_at_ms', limit, after, ...where }));
    const isLast = found.length < limit;
    const count = found.length;
    let chars = 0;
    // Removes each event before it is sent, so that sent events are not kept in memory.
    for (let first = found.shift(); first !== undefined; first = found.shift()) {
      const document = Events.read(first);
      if (document === undefined) continue;
      chars += document.body.length;
      after = { value: document.received_at_ms, id: first.ref.id };
      yield { id: first.ref.id, document };
    }
    if (isLast) return;
    limit = Math.max(1, Math.min(PAGE_MAX, Math.floor((PAGE_CHARS * count) / Math.max(1, chars))));
  }
}
