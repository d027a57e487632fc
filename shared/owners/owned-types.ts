// The types of documents that belong to an owner, in the order in which they are exported. A test compares them with
// all declared types.
import { LoginDocuments } from '../auth/logins/logins.ts';
import { Tickets } from '../auth/tickets.ts';
import { DailyUsages } from '../conversations/records/daily-usage.ts';
import { Conversations } from '../conversations/records/documents.ts';
import { StorageTotals } from '../conversations/records/storage.ts';
import { IdempotencyRecords, TurnEvents, Turns } from '../conversations/records/turn-documents.ts';
import { McpConnections, McpOwners } from '../mcp/records/documents.ts';
import { SandboxErasures } from '../sandbox-records/erasures.ts';
import type { DocumentType } from '../store/define-document.ts';
import type { Query, Snapshot, Store } from '../store/store.ts';

export type OwnedType = Pick<DocumentType<object>, 'definition' | 'ref' | 'query' | 'readKnown'>;

/** Those of sessions are found through `conversations`. */
export const OWNED_TYPES: readonly OwnedType[] = [
  Conversations,
  Turns,
  TurnEvents,
  IdempotencyRecords,
  LoginDocuments,
  Tickets,
  McpOwners,
  McpConnections,
  DailyUsages,
  StorageTotals,
  SandboxErasures,
];

export interface Page {
  readonly after?: NonNullable<Query['after']>;
  readonly limit: number;
  readonly withExpired?: boolean;
}

/**
 * Documents of the type that the owner has, in an order that does not change: `limit`, or fewer if there are no more.
 */
export async function findOwned(store: Store, type: OwnedType, owner: string, page: Page): Promise<Snapshot[]> {
  const { owned } = type.definition;
  if (typeof owned !== 'object') return [];
  if ('orderBy' in owned) return store.query(type.query({ where: { owner }, orderBy: owned.orderBy, ...page }));
  if (page.after !== undefined) return [];
  return (await store.get([type.ref(owned.idOf(owner))])).filter(({ version }) => version !== null);
}
