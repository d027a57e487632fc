// `conversation.status`: returns the state of a session.
import { z } from 'zod';
import { defineMethod } from './define-method.ts';
import { SessionId, TurnError, TurnId, TurnStatusResult, UsageResult } from './schemas/schemas.ts';
import { SESSION_EXAMPLE, SessionLabels, SessionStatus, toLabels } from './schemas/session-schemas.ts';

const Found = z.object({
  conversation_id: z.string(),
  metadata: z.object({
    model: z.string(),
    created_at: z.string(),
    updated_at: z.string(),
    message_count: z.int(),
    usage: UsageResult,
    ...SessionLabels,
  }),
  status: SessionStatus,
  session_id: z.string(),
  turn: z
    .object({
      turn_id: TurnId,
      status: TurnStatusResult,
      started_at: z.string().optional(),
      error: TurnError.optional(),
    })
    .optional()
    .describe('The running turn, or the last one'),
  queued: z.int().optional().describe('Number of prompts that wait for the running turn'),
});

const Missing = z.object({ status: z.literal('not_found'), session_id: z.string() });

const { session_id, conversation_id, status, preview: _preview, ...metadata } = SESSION_EXAMPLE;

export const conversationStatus = defineMethod({
  name: 'conversation.status',
  summary: 'Returns the state of a session',
  scope: 'conversation',
  cost: 'read',
  startsEarly: true,
  params: z.strictObject({ session_id: SessionId }),
  result: z.union([Found, Missing]),
  example: {
    params: { session_id: 'my-session-123' },
    result: { session_id, conversation_id, status, metadata, turn: { turn_id: 'turn_1', status: 'completed' } },
  },
  async handle({ session_id }, { services, caller, admitted }) {
    const { conversations } = services;
    let found = await conversations.find(caller.keyId, session_id);
    const lease = found?.conversation.turn ?? null;
    if (lease !== null && conversations.ownerState(lease) === 'expired') {
      await admitted;
      // Stores the end before it is returned; otherwise an owner that is only late could still complete the turn.
      await conversations.settleAbandoned(caller.keyId, session_id, lease);
      found = await conversations.find(caller.keyId, session_id);
    }
    if (found === undefined) return { status: 'not_found' as const, session_id };
    const { turn, last_turn, queue, ...conversation } = found.conversation;
    return {
      conversation_id: conversation.conversation_id,
      metadata: {
        model: conversation.model,
        created_at: conversation.created_at,
        updated_at: conversation.updated_at,
        message_count: conversation.message_count,
        usage: conversation.usage,
        ...toLabels(found.conversation),
      },
      status: conversation.status,
      session_id,
      ...(turn !== null
        ? {
            turn: {
              turn_id: turn.turn_id,
              status: 'running' as const,
              started_at: turn.started_at,
            },
          }
        : last_turn !== null && { turn: { ...last_turn } }),
      ...(queue.length > 0 && { queued: queue.length }),
    };
  },
});
