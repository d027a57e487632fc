// owner.export: everything that the gateway keeps of an owner, as lines in an order that does not change while other
// calls write: collection by collection, sessions by their creation, each with its messages. A cursor names the last
// line of a page, so that lines which are written after it are in a later page, and no line is in two pages.
import { z } from 'zod';
import { Conversations } from '../conversations/records/documents.ts';
import { splitText } from '../messages/text.ts';
import { Limits, toLimitRef } from '../rate-limit/windows/limit-document.ts';
import type { Services } from '../services.ts';
import { badCursor, DocumentId, decodeCursor } from '../store/cursor.ts';
import type { Snapshot } from '../store/store.ts';
import { exportSession, SessionPlace } from './export-session.ts';
import { findOwned, OWNED_TYPES, type OwnedType } from './owned-types.ts';

/** Documents of one query. */
const STEP = 50;
/** The document of a session contains its newest messages. */
const SESSIONS_STEP = 5;
/** UTF-16 units of an object in one line. A unit takes at most 4 bytes in the response: half of a page. */
const PIECE_UNITS = 128 << 10;

const Position = z.object({
  collection: z.string().max(64),
  /** The field of the order, and the id of the document. */
  value: z.union([z.string().max(256), z.number()]),
  id: DocumentId,
  /** Within a session. */
  place: SessionPlace,
  /** Pieces of the object that are done; 0: all of them. */
  pieces: z.int().min(0),
});
type Position = z.output<typeof Position>;
const Encoded = z
  .tuple([Position.shape.collection, Position.shape.value, Position.shape.id, SessionPlace, Position.shape.pieces])
  .transform(([collection, value, id, place, pieces]) => ({ collection, value, id, place, pieces }));

interface Item {
  readonly item: Readonly<Record<string, unknown>>;
  readonly at: Omit<Position, 'pieces'>;
}

/** A line of the export, and the cursor of what comes after it. */
export interface ExportLine {
  readonly line: string;
  readonly cursor: string;
}

/**
 * Reads as the caller takes the lines. An object that is too long for a line is several lines `{type, piece, pieces,
 * json}`. Throws RpcError `invalid_params` for a text that is no cursor of an export.
 */
export async function* exportOwner(
  services: Services,
  owner: string,
  cursor: string | undefined,
): AsyncGenerator<ExportLine, void, void> {
  const start = cursor === undefined ? undefined : decodeCursor(cursor, Encoded);
  let done = start?.pieces ?? 0;
  for await (const { item, at } of itemsOf(services, owner, start)) {
    const json = JSON.stringify(item);
    const pieces = json.length <= PIECE_UNITS ? [] : [...splitText(json, PIECE_UNITS)];
    if (pieces.length === 0) yield { line: json, cursor: toCursor(at, 0) };
    for (const [index, text] of pieces.entries()) {
      if (index < done) continue;
      const piece = { type: item.type, piece: index + 1, pieces: pieces.length, json: text };
      yield { line: JSON.stringify(piece), cursor: toCursor(at, (index + 1) % pieces.length) };
    }
    done = 0;
  }
}

/** From `start` on: with its object if pieces of it are left, else after it. */
async function* itemsOf(
  services: Services,
  owner: string,
  start: Position | undefined,
): AsyncGenerator<Item, void, void> {
  const types = [...OWNED_TYPES.map(({ definition }) => definition.collection), Limits.definition.collection];
  const first = start === undefined ? 0 : types.indexOf(start.collection);
  if (first === -1) throw badCursor('cursor', 'not a cursor of this list');
  for (const [index, type] of OWNED_TYPES.entries()) {
    if (index >= first) yield* itemsOfType(services, type, owner, index === first ? start : undefined);
  }
  if (start?.collection === Limits.definition.collection && start.pieces === 0) return;
  const [limits] = await services.store.get([toLimitRef(owner)]);
  if (limits?.data !== undefined) yield toItem(Limits, limits, 0);
}

async function* itemsOfType(
  services: Services,
  type: OwnedType,
  owner: string,
  start: Position | undefined,
): AsyncGenerator<Item, void, void> {
  const isSessions = type === Conversations;
  const limit = isSessions ? SESSIONS_STEP : STEP;
  async function* itemsIn(snapshot: Snapshot, from: Position | undefined): AsyncGenerator<Item, void, void> {
    const value = from?.value ?? orderOf(type, snapshot);
    if (!isSessions) yield toItem(type, snapshot, value);
    else {
      const { collection, id } = snapshot.ref;
      const items = exportSession(services, snapshot, from?.place, from !== undefined && from.pieces > 0);
      for await (const { item, place } of items) yield { item, at: { collection, value, id, place } };
    }
  }
  if (start !== undefined && (isSessions || start.pieces > 0)) {
    const [snapshot] = await services.store.get([type.ref(start.id)]);
    // It may have been erased since; a cursor of another owner names no document of this one.
    if (snapshot !== undefined && ownerOf(snapshot) === owner) yield* itemsIn(snapshot, start);
  }
  for (let after = start && { value: start.value, id: start.id }; ; ) {
    const found = await findOwned(services.store, type, owner, { limit, ...(after && { after }) });
    for (const snapshot of found) if (snapshot.data !== undefined) yield* itemsIn(snapshot, undefined);
    const last = found.at(-1);
    if (found.length < limit || last === undefined) return;
    after = { value: orderOf(type, last), id: last.ref.id };
  }
}

function toItem({ definition }: Pick<OwnedType, 'definition'>, snapshot: Snapshot, value: string | number): Item {
  const { collection, secret = [] } = definition;
  const { id } = snapshot.ref;
  const fields = Object.entries(snapshot.data ?? {}).filter(([name]) => name !== 'owner' && !secret.includes(name));
  return {
    item: { type: collection, id, ...Object.fromEntries(fields) },
    at: { collection, value, id, place: ['', 0] },
  };
}

function orderOf({ definition: { owned } }: OwnedType, snapshot: Snapshot): string | number {
  const value = typeof owned === 'object' && 'orderBy' in owned ? fieldOf(snapshot, owned.orderBy) : 0;
  return typeof value === 'string' || typeof value === 'number' ? value : 0;
}

function ownerOf(snapshot: Snapshot): unknown {
  return fieldOf(snapshot, 'owner');
}

function fieldOf({ data = {} }: Snapshot, name: string): unknown {
  const fields: Readonly<Record<string, unknown>> = { ...data };
  return fields[name];
}

function toCursor({ collection, value, id, place: [kind, number] }: Item['at'], pieces: number): string {
  return Buffer.from(JSON.stringify([collection, value, id, [kind, number], pieces])).toString('base64url');
}
