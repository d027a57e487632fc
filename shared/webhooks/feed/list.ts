// Reads recorded events and deployments page by page. A page is bounded by its number of entries and by `fits`. Cursors
// are opaque, and are validated.
import { z } from 'zod';
import { badCursor, DocumentId, decodeCursor, encodeCursor } from '../../store/cursor.ts';
import type { CallOptions, Store } from '../../store/store.ts';
import { type DeploymentDocument, Deployments } from '../deployments.ts';
import { type EventDocument, Events, resolveEventCursor } from '../documents.ts';

/**
 * Documents of the first fetch. Later fetches have about FETCH_CHARS in total, so that few large documents are in
 * memory.
 */
const FETCH_FIRST = 8;
const FETCH_MAX = 100;
const FETCH_CHARS = 1 << 20;

export type Order = 'newest' | 'oldest';

export interface EventPageRequest {
  /** Only events of this name. */
  readonly event?: string | undefined;
  /** `next_cursor` of the previous page with the same order, or the id of an event. */
  readonly after?: string | undefined;
  readonly order: Order;
  /** 1..100. */
  readonly limit: number;
}

export interface ListOptions<T> extends CallOptions {
  /**
   * Whether the item fits on the page; called in order. The page ends before the first item that does not fit. Default:
   * all fit.
   */
  readonly fits?: (item: T) => boolean;
}

export interface EventItem {
  readonly id: string;
  readonly document: EventDocument;
}

export interface Page<T> {
  readonly items: readonly T[];
  /** Present if there may be more items. */
  readonly nextCursor?: string;
}

const EventCursor = z.tuple([z.enum(['newest', 'oldest']), z.number(), DocumentId]);
const DeploymentCursor = z.tuple([z.literal('service'), z.string().max(128), DocumentId]);

/** Lists recorded events by arrival. Throws RpcError `invalid_params` for an invalid cursor, `unavailable`. */
export async function listEvents(
  store: Store,
  { event, after, order, limit }: EventPageRequest,
  options: ListOptions<EventItem> = {},
): Promise<Page<EventItem>> {
  const items: EventItem[] = [];
  let position =
    after === undefined ? undefined : ((await resolveEventCursor(store, after, options)) ?? readCursor(after, order));
  const fetched = createFetchSize(limit);
  for (;;) {
    const size = fetched.next(items.length);
    const query = Events.query({
      orderBy: 'received_at_ms',
      direction: order === 'newest' ? 'desc' : 'asc',
      limit: size,
      ...(event === undefined ? {} : { where: { event } }),
      ...(position === undefined ? {} : { after: position }),
    });
    const found = await store.query(query, options);
    for (const snapshot of found) {
      const document = Events.read(snapshot);
      if (document === undefined) continue;
      const { id } = snapshot.ref;
      const item = { id, document };
      if (options.fits?.(item) === false) return page(items, position, order);
      fetched.count(document.body.length);
      items.push(item);
      position = { value: document.received_at_ms, id };
    }
    if (found.length < size) return { items };
    if (items.length === limit) return page(items, position, order);
  }
}

function readCursor(after: string, order: Order): { readonly value: number; readonly id: string } {
  const [listed, value, id] = decodeCursor(after, EventCursor, 'after');
  if (listed !== order) throw badCursor('after', 'the cursor belongs to another order');
  return { value, id };
}

/**
 * Lists the latest state per service and region, by service. Throws RpcError `invalid_params` for an invalid cursor,
 * `unavailable`.
 */
export async function listDeployments(
  store: Store,
  { after: cursor, limit }: { readonly after?: string | undefined; readonly limit: number },
  options: ListOptions<DeploymentDocument> = {},
): Promise<Page<DeploymentDocument>> {
  const start = cursor === undefined ? undefined : decodeCursor(cursor, DeploymentCursor, 'after');
  const after = start === undefined ? {} : { after: { value: start[1], id: start[2] } };
  const query = Deployments.query({ orderBy: 'service', limit, ...after });
  const found = await store.query(query, options);
  const items: DeploymentDocument[] = [];
  let nextCursor: string | undefined;
  for (const snapshot of found) {
    const item = Deployments.read(snapshot);
    if (item === undefined) continue;
    if (options.fits?.(item) === false) return { items, ...(nextCursor !== undefined && { nextCursor }) };
    items.push(item);
    nextCursor = encodeCursor(['service', item.service, snapshot.ref.id]);
  }
  return { items, ...(found.length === limit && nextCursor !== undefined && { nextCursor }) };
}

/** Computes the number of documents of the next fetch from the sizes so far. */
function createFetchSize(limit: number) {
  let count = 0;
  let chars = 0;
  return {
    count(bodyChars: number): void {
      count++;
      chars += bodyChars;
    },
    next(taken: number): number {
      const bySize = count === 0 ? FETCH_FIRST : Math.floor(FETCH_CHARS / Math.max(1, chars / count));
      return Math.max(1, Math.min(bySize, FETCH_MAX, limit - taken));
    },
  };
}

function page<T>(items: readonly T[], position: { value: number; id: string } | undefined, order: Order): Page<T> {
  if (position === undefined) return { items };
  return { items, nextCursor: encodeCursor([order, position.value, position.id]) };
}
