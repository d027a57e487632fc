// `conversation.history`: all messages of a session, page by page, oldest or newest first.
import { z } from 'zod';
import { createSlices } from '../async.ts';
import type { MessageText } from '../conversations/records/messages/history.ts';
import { RpcError } from '../errors.ts';
import { type MessagePart, withoutMetadata } from '../messages/message-parts.ts';
import { createPage } from '../rpc/page.ts';
import { decodeCursor, encodeCursor } from '../store/cursor.ts';
import { defineMethod } from './define-method.ts';
import { Cursor, SessionId, TurnError, UsageResult } from './schemas/schemas.ts';

/** The last message of the page before. A cursor of one order is refused with the other. */
const AfterSeq = z.tuple([z.int().min(0)]);
const BeforeSeq = z.tuple([z.int().min(0), z.literal('newest')]);

const HistoryPart = z
  .discriminatedUnion('type', [
    z.object({ type: z.literal('text'), text: z.string() }),
    z.object({ type: z.literal('image'), media_type: z.string(), data: z.string().describe('Base64') }),
    z.object({ type: z.literal('reasoning'), text: z.string() }),
    z.object({
      type: z.literal('tool_call'),
      call_id: z.string(),
      name: z.string(),
      arguments: z.string().describe('JSON text, as the model wrote it'),
    }),
    z.object({
      type: z.literal('tool_result'),
      call_id: z.string(),
      name: z.string(),
      content: z.string(),
      is_error: z.boolean(),
    }),
  ])
  .describe('A part of a message, in the order in which it happened');

const HistoryMessage = z.object({
  seq: z.int().describe('From 1, without gaps'),
  role: z.enum(['user', 'assistant']),
  content: z.string(),
  created_at: z.string(),
  turn_id: z.string(),
  model: z.string().optional().describe('Of an answer: the model that answered'),
  parts: z
    .array(HistoryPart)
    .optional()
    .describe('The whole message if it is more than text: texts, images, reasoning, tool calls and their results'),
  usage: UsageResult.optional(),
  finish_reason: z.enum(['length', 'content_filter', 'other']).optional().describe('Of an answer that was cut: why'),
  error: TurnError.optional().describe('Of the last message of a turn that failed: the error of its prompt'),
  partial: z.boolean().optional().describe('True: the turn did not complete; this is the received part of the answer'),
});

export const conversationHistory = defineMethod({
  name: 'conversation.history',
  summary: 'Lists the messages of a session page by page, oldest or newest first; a page ends at 1 MiB',
  scope: 'conversation',
  cost: 'read',
  startsEarly: true,
  isBulky: true,
  params: z.strictObject({
    session_id: SessionId,
    cursor: Cursor.optional(),
    limit: z.int().min(1).max(200).default(50),
    order: z.enum(['oldest', 'newest']).default('oldest').describe('Which messages come first'),
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
  async handle({ session_id, cursor, limit, order }, { services, caller, answerBytesMax }) {
    const isNewest = order === 'newest';
    const [fromSeq] =
      cursor === undefined ? [] : decodeCursor<[number, ...unknown[]]>(cursor, isNewest ? BeforeSeq : AfterSeq);
    const { conversations } = services;
    const { history } = conversations;
    const found = await conversations.find(caller.keyId, session_id);
    if (found === undefined) throw new RpcError('not_found', { message: 'no such session', data: { session_id } });
    const { conversation } = found;
    const messages = isNewest ? history.readBack(conversation, fromSeq) : history.read(conversation, fromSeq);
    const page = createPage<z.output<typeof HistoryMessage>>();
    const slice = createSlices();
    for await (const message of messages) {
      await slice();
      const isOnPage = page.add(toHistoryMessage(message));
      if (!isOnPage || page.items.length === limit) break;
    }
    const last = page.items.at(-1);
    const isMore = last !== undefined && (isNewest ? last.seq > 1 : last.seq < conversation.message_count);
    const nextCursor = isMore ? encodeCursor(isNewest ? [last.seq, 'newest'] : [last.seq]) : undefined;
    page.check(answerBytesMax, nextCursor, { session_id, seq: last?.seq });
    return {
      session_id,
      conversation_id: conversation.conversation_id,
      messages: [...page.items],
      ...(nextCursor !== undefined && { next_cursor: nextCursor }),
    };
  },
});

function toHistoryMessage(message: MessageText): z.output<typeof HistoryMessage> {
  const { seq, role, text, created_at, turn_id, model, usage, finish_reason, error, partial, parts } = message;
  return {
    seq,
    role,
    content: text,
    created_at,
    turn_id,
    ...(model !== undefined && { model }),
    ...(usage !== undefined && { usage }),
    ...(finish_reason !== undefined && { finish_reason }),
    ...(error !== undefined && { error }),
    ...(parts !== undefined && { parts: parts.filter(isShown).map(withoutMetadata) }),
    ...(partial && { partial }),
  };
}

/** Reasoning without text is only for its provider. */
function isShown(part: MessagePart): boolean {
  return part.type !== 'reasoning' || part.text !== '';
}
