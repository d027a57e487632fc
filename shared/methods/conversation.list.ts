// `conversation.list`: lists the caller's sessions.
import { z } from 'zod';
import { createSlices } from '../async.ts';
import { hasMetadata } from '../conversations/records/session-fields.ts';
import { createPage } from '../rpc/page.ts';
import { DocumentId, decodeCursor, encodeCursor } from '../store/cursor.ts';
import { defineMethod } from './define-method.ts';
import { Cursor, UsageResult } from './schemas/schemas.ts';
import { Metadata, SESSION_EXAMPLE, SessionResult, toSession } from './schemas/session-schemas.ts';

const Position = z.tuple([z.string().max(64), DocumentId]);

/** Documents read at a time; each contains the newest messages of its session. */
const STEP = 20;
/** Most documents read for one page; one with a filter by several pairs may have fewer sessions than `limit`. */
const READ_MAX = 200;

export const conversationList = defineMethod({
  name: 'conversation.list',
  summary: 'Lists the caller’s sessions, most recently used first',
  scope: 'conversation',
  cost: 'read',
  startsEarly: true,
  isBulky: true,
  params: z.strictObject({
    cursor: Cursor.optional(),
    limit: z.int().min(1).max(100).default(20),
    metadata: Metadata.optional().describe('Only sessions whose metadata has all of these names and values'),
  }),
  result: z.object({
    conversations: z.array(SessionResult),
    next_cursor: z.string().optional().describe('Present if there may be more'),
    usage_today: UsageResult.extend({ day: z.string() }).describe('Tokens of this key on the current UTC day'),
  }),
  example: {
    params: { limit: 1 },
    result: {
      conversations: [SESSION_EXAMPLE],
      usage_today: { day: '2026-11-13', ...SESSION_EXAMPLE.usage },
    },
  },
  async handle({ cursor, limit, metadata = {} }, { services, caller }) {
    const { conversations } = services;
    const position = cursor === undefined ? undefined : decodeCursor(cursor, Position);
    let after = position && { value: position[0], id: position[1] };
    const today = conversations.ledger.today(caller.keyId);
    // Awaited after the pages only; this handler prevents an unhandled rejection until then.
    today.catch(() => {});
    const page = createPage<z.input<typeof SessionResult>>();
    // The query checks one pair.
    const isExact = Object.keys(metadata).length <= 1;
    const slice = createSlices();
    for (let read = 0; read < READ_MAX && page.items.length < limit; ) {
      const size = isExact ? Math.min(STEP, limit - page.items.length) : STEP;
      const found = await conversations.list(caller.keyId, { after, limit: size, metadata });
      await slice();
      for (const { id, conversation, isExpired } of found) {
        const isMatch = !isExpired && hasMetadata(conversation, metadata);
        if (isMatch && (page.items.length === limit || !page.add(toSession(conversation)))) return answer(true);
        after = { value: conversation.updated_at, id };
      }
      if (found.length < size) return answer(false);
      read += found.length;
    }
    return answer(true);

    async function answer(hasMore: boolean) {
      return {
        conversations: [...page.items],
        usage_today: await today,
        ...(hasMore && after !== undefined && { next_cursor: encodeCursor([after.value, after.id]) }),
      };
    }
  },
});
