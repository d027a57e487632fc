// `conversation.list`: lists the caller's sessions.
import { z } from 'zod';
import type { ConversationDocument } from '../conversations/records/documents.ts';
import { createPage } from '../rpc/page.ts';
import { decodeCursor, encodeCursor } from '../store/cursor.ts';
import { defineMethod } from './define-method.ts';
import { Cursor, UsageResult } from './schemas/schemas.ts';

const Position = z.tuple([z.string().max(64), z.string().max(128)]);

/** Documents read at a time; each contains the newest messages of its session. */
const STEP = 20;

const Listed = z.object({
  session_id: z.string(),
  conversation_id: z.string(),
  status: z.enum(['idle', 'running', 'cancelled', 'failed']),
  model: z.string(),
  created_at: z.string(),
  updated_at: z.string(),
  message_count: z.int(),
  usage: UsageResult,
});

export const conversationList = defineMethod({
  name: 'conversation.list',
  summary: 'Lists the caller’s sessions, most recently used first',
  scope: 'conversation',
  cost: 'read',
  isBulky: true,
  params: z.strictObject({ cursor: Cursor.optional(), limit: z.int().min(1).max(100).default(20) }),
  result: z.object({
    conversations: z.array(Listed),
    next_cursor: z.string().optional().describe('Present if there may be more'),
    usage_today: UsageResult.extend({ day: z.string() }).describe('Tokens of this key on the current UTC day'),
  }),
  example: {
    params: { limit: 1 },
    result: {
      conversations: [
        {
          session_id: 'my-session-123',
          conversation_id: 'conv_abc123',
          status: 'idle',
          model: 'anthropic/claude-sonnet-5-5',
          created_at: '2026-11-13T14:00:00.000Z',
          updated_at: '2026-11-13T14:20:00.000Z',
          message_count: 2,
          usage: { input_tokens: 14, output_tokens: 21, total_tokens: 35 },
        },
      ],
      usage_today: { day: '2026-11-13', input_tokens: 14, output_tokens: 21, total_tokens: 35 },
    },
  },
  async handle({ cursor, limit }, { services, caller }) {
    const { conversations } = services;
    const position = cursor === undefined ? undefined : decodeCursor(cursor, Position);
    let after = position && { value: position[0], id: position[1] };
    const today = conversations.ledger.today(caller.keyId);
    // Awaited after the pages only; this handler prevents an unhandled rejection until then.
    today.catch(() => {});
    const page = createPage<z.input<typeof Listed>>();
    let isMore = true;
    while (isMore && page.items.length < limit) {
      const size = Math.min(STEP, limit - page.items.length);
      const found = await conversations.list(caller.keyId, after, size);
      isMore = found.length === size;
      for (const { id, conversation } of found) {
        if (!page.add(toListed(conversation))) return answer(true);
        after = { value: conversation.updated_at, id };
      }
    }
    return answer(isMore);

    async function answer(hasMore: boolean) {
      const isOpen = hasMore && after !== undefined && page.items.length > 0;
      return {
        conversations: [...page.items],
        usage_today: await today,
        ...(isOpen && { next_cursor: encodeCursor([after?.value ?? '', after?.id ?? '']) }),
      };
    }
  },
});

function toListed(conversation: ConversationDocument): z.input<typeof Listed> {
  return {
    session_id: conversation.session_id,
    conversation_id: conversation.conversation_id,
    status: conversation.status,
    model: conversation.model,
    created_at: conversation.created_at,
    updated_at: conversation.updated_at,
    message_count: conversation.message_count,
    usage: conversation.usage,
  };
}
