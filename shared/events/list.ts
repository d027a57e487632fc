// Reads recorded events and deployments page by page. A page is bounded in entries and in bytes; cursors are opaque to the caller and
// checked on the way in.
import { z } from 'zod';
import { badCursor, decodeCursor, encodeCursor } from '../store/cursor.ts';
import type { CallOptions, Query, Store } from '../store/store.ts';
import { type DeploymentDocument, readDeployment } from './deployments.ts';
import { type EventDocument, readEvent, standingOf } from './documents.ts';

/** A page ends early once its bodies exceed this; a single event may be larger. */
const PAGE_CHARS_MAX = 512 << 10;
/** Events fetched at a time, so that a page of the largest bodies stays small in memory. */
const FETCH_MAX = 20;

export type Order = 'newest' | 'oldest';

export interface EventPageRequest {
  /** Only events of this name. */
  readonly event?: string | undefined;
  /** `next_cursor` of the page before, asked for with the same order; or the id of an event. */
  readonly after?: string | undefined;
  readonly order: Order;
  /** 1..100. */
  readonly limit: number;
}

export interface Page<T> {
  readonly items: readonly T[];
  /** Present when there may be more. */
  readonly nextCursor?: string;
}

const EventCursor = z.tuple([z.enum(['newest', 'oldest']), z.number(), z.string().max(128)]);
const DeploymentCursor = z.tuple([z.literal('service'), z.string().max(128), z.string().max(128)]);

/** Recorded events by arrival. Throws RpcError `invalid_params` for a foreign cursor, `unavailable`. */
export async function listEvents(
  store: Store,
  { event, after, order, limit }: EventPageRequest,
  options: CallOptions = {},
): Promise<Page<{ readonly id: string; readonly document: EventDocument }>> {
  const items: { id: string; document: EventDocument }[] = [];
  let position =
    after === undefined ? undefined : ((await standingOf(store, after, options)) ?? readCursor(after, order));
  let chars = 0;
  for (;;) {
    const size = Math.min(FETCH_MAX, limit - items.length);
    const query: Query = {
      collection: 'events',
      orderBy: 'received_at_ms',
      direction: order === 'newest' ? 'desc' : 'asc',
      limit: size,
      ...(event === undefined ? {} : { where: { event } }),
      ...(position === undefined ? {} : { after: position }),
    };
    const found = await store.query(query, options);
    for (const { ref, data } of found) {
      const document = readEvent(data);
      if (document === undefined) continue;
      if (items.length > 0 && chars + document.body.length > PAGE_CHARS_MAX) return page(items, position, order);
      chars += document.body.length;
      items.push({ id: ref.id, document });
      position = { value: document.received_at_ms, id: ref.id };
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

/** Latest state per service and region, by service. Throws RpcError `invalid_params` for a foreign cursor, `unavailable`. */
export async function listDeployments(
  store: Store,
  { after, limit }: { readonly after?: string | undefined; readonly limit: number },
  options: CallOptions = {},
): Promise<Page<DeploymentDocument>> {
  const start = after === undefined ? undefined : decodeCursor(after, DeploymentCursor, 'after');
  const query: Query = {
    collection: 'deployments',
    orderBy: 'service',
    limit,
    ...(start === undefined ? {} : { after: { value: start[1], id: start[2] } }),
  };
  const found = await store.query(query, options);
  const items = found.flatMap(({ data }) => (data === undefined ? [] : [readDeployment(data)]));
  const last = found.at(-1);
  if (found.length < limit || last?.data === undefined) return { items };
  return { items, nextCursor: encodeCursor(['service', readDeployment(last.data).service, last.ref.id]) };
}

function page<T>(items: readonly T[], position: { value: number; id: string } | undefined, order: Order): Page<T> {
  if (position === undefined) return { items };
  return { items, nextCursor: encodeCursor([order, position.value, position.id]) };
}
