// The items of one session: the session, its messages with their parts, and Codex's own record.
import { z } from 'zod';
import { readRolloutPart } from '../conversations/records/rollouts.ts';
import { metadataOf } from '../conversations/records/session-fields.ts';
import type { Services } from '../services.ts';
import type { Snapshot } from '../store/store.ts';

/** What the item is, and the number of the message or of the part of the record. */
export const SessionPlace = z.tuple([z.enum(['', 'session', 'message', 'codex_record']), z.int().min(0)]);
export type SessionPlace = z.output<typeof SessionPlace>;

export interface SessionItem {
  readonly item: Readonly<Record<string, unknown>>;
  readonly place: SessionPlace;
}

/** Fields of the document that are its state and not its content. */
const INTERNAL: ReadonlySet<string> = new Set([
  ...['owner', 'epoch', 'turn', 'queue', 'recent', 'chunks', 'budgets', 'deleted', 'ending', 'labels', 'branch'],
  ...['counted_bytes', 'companion', 'format'],
]);

/** The items after `place`, with its own if `isIncluded`; without a place all. */
export async function* exportSession(
  { conversations, store }: Services,
  snapshot: Snapshot,
  place: SessionPlace | undefined,
  isIncluded: boolean,
): AsyncGenerator<SessionItem, void, void> {
  const conversation = conversations.read(snapshot);
  if (conversation === undefined) return;
  const { session_id, conversation_id } = conversation;
  const [kind, number] = place ?? ['', 0];
  const rest = isIncluded ? number : number + 1;
  if (kind === '' || (kind === 'session' && isIncluded)) {
    const fields = Object.entries(conversation).filter(([name]) => !INTERNAL.has(name));
    const metadata = metadataOf(conversation);
    const item = { type: 'session', ...Object.fromEntries(fields), ...(metadata !== undefined && { metadata }) };
    yield { item, place: ['session', 0] };
  }
  if (kind !== 'codex_record') {
    for await (const message of conversations.history.read(conversation, kind === 'message' ? rest - 1 : 0)) {
      const { text: content, content: _1, head: _2, bytes: _3, detail: _4, tokens: _5, ...fields } = message;
      yield { item: { type: 'message', session_id, ...fields, content }, place: ['message', message.seq] };
    }
  }
  for (let part = kind === 'codex_record' ? rest : 0; ; part++) {
    const record = await readRolloutPart(store, conversation_id, part);
    if (record === undefined) return;
    const { data, parts } = record;
    const item = { type: 'codex_record', session_id, part: part + 1, parts, encoding: 'base64', data };
    yield { item, place: ['codex_record', part] };
  }
}
