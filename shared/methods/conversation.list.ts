// `conversation.list`: the caller's own sessions.
import { z } from 'zod';
import { decodeCursor, encodeCursor } from '../store/cursor.ts';
import { defineMethod } from './define-method.ts';
import { Cursor, UsageResult } from './schemas.ts';

const Position = z.tuple([z.string().max(64), z.string().max(128)]);

export const conversationList = defineMethod({
  name: 'conversation.list',
  summary: 'Lists the caller’s own sessions, the one used last first',
  scope: 'conversation',
  cost: 'read',
  params: z.strictObject({ cursor: Cursor.optional(), limit: z.int().min(1).max(100).default(20) }),
  result: z.object({
    conversations: z.array(
      z.object({
        session_id: z.string(),
        conversation_id: z.string(),
        status: z.enum(['idle', 'running', 'cancelled', 'failed']),
        model: z.string(),
        created_at: z.string(),
        updated_at: z.string(),
        message_count: z.int(),
        usage: UsageResult,
      }),
    ),
    next_cursor: z.string().optional().describe('Present when there may be more'),
    usage_today: UsageResult.extend({ day: z.string() }).describe('Tokens of this key on the present UTC day'),
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
    const position = cursor === undefined ? undefined : decodeCursor(cursor, Position);
    const after = position && { value: position[0], id: position[1] };
    const [page, today] = await Promise.all([
      services.conversations.list(caller.keyId, after, limit),
      services.conversations.ledger.today(caller.keyId),
    ]);
    const last = page.at(-1);
    return {
      conversations: page.map(({ conversation }) => ({
        session_id: conversation.session_id,
        conversation_id: conversation.conversation_id,
        status: conversation.status,
        model: conversation.model,
        created_at: conversation.created_at,
        updated_at: conversation.updated_at,
        message_count: conversation.message_count,
        usage: conversation.usage,
      })),
      usage_today: today,
      ...(last !== undefined &&
        page.length === limit && { next_cursor: encodeCursor([last.conversation.updated_at, last.id]) }),
    };
  },
});
