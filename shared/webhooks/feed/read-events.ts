// Reads stored webhook events in the order of their arrival.
import type { Store } from '../../store/store.ts';
import { type EventDocument, Events } from '../documents.ts';

/** Events read at a time, at first; then as many as have about PAGE_CHARS: a slow reader holds what it has read. */
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
    // Taken out one by one: what has been sent is not held until the rest is.
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
