// `conversation.history`: all messages of a session, page by page, oldest first.
import { z } from 'zod';
import { RpcError } from '../errors.ts';
import { createPage } from '../rpc/page.ts';
import { decodeCursor, encodeCursor } from '../store/cursor.ts';
import { defineMethod } from './define-method.ts';
import { Cursor, SessionId } from './schemas/schemas.ts';

const Position = z.tuple([z.int().min(0)]);

const HistoryMessage = z.object({
  seq: z.int().describe('From 1, without gaps'),
  role: z.enum(['user', 'assistant']),
  content: z.string(),
  created_at: z.string(),
  turn_id: z.string(),
  partial: z.boolean().optional().describe('True: the turn did not complete; this is the received part of the answer'),
});

export const conversationHistory = defineMethod({
  name: 'conversation.history',
  summary: 'Lists the messages of a session page by page, oldest first; a page ends at 1 MiB',
  scope: 'conversation',
  cost: 'read',
  isBulky: true,
  params: z.strictObject({
    session_id: SessionId,
    cursor: Cursor.optional(),
    limit: z.int().min(1).max(200).default(50),
  }),
  result: z.object({
    session_id: z.string(),
    conversation_id: z.string(),
    messages: z.array(HistoryMessage),
    next_cursor: z.string().optional().describe('Present if there are more'),
  }),
  errors: ['not_found'],
  example: {
    params: { session_id: 'my-session-123' },
    result: {
      session_id: 'my-session-123',
      conversation_id: 'conv_abc123',
      messages: [{ seq: 1, role: 'user', content: 'Hello', created_at: '2026-11-13T14:00:00.000Z', turn_id: 'turn_1' }],
    },
  },
  async handle({ session_id, cursor, limit }, { services, caller, answerBytesMax }) {
    const [afterSeq] = cursor === undefined ? [0] : decodeCursor(cursor, Position);
    const { conversations } = services;
    const found = await conversations.find(caller.keyId, session_id);
    if (found === undefined) throw new RpcError('not_found', { message: 'no such session', data: { session_id } });
    const { conversation } = found;
    const page = createPage<z.output<typeof HistoryMessage>>();
    for await (const { seq, role, text, created_at, turn_id, partial } of conversations.history.read(
      conversation,
      afterSeq,
    )) {
      const isOnPage = page.add({ seq, role, content: text, created_at, turn_id, ...(partial && { partial }) });
      if (!isOnPage || page.items.length === limit) break;
    }
    const last = page.items.at(-1);
    const isMore = last !== undefined && last.seq < conversation.message_count;
    const nextCursor = isMore ? encodeCursor([last.seq]) : undefined;
    page.check(answerBytesMax, nextCursor, { session_id, seq: last?.seq });
    return {
      session_id,
      conversation_id: conversation.conversation_id,
      messages: [...page.items],
      ...(nextCursor !== undefined && { next_cursor: nextCursor }),
    };
  },
});
