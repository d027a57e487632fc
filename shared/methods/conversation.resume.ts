// `conversation.resume`: sends a turn's events after a sequence number, then live, on any instance.
import { z } from 'zod';
import type { NumberedEvent } from '../conversations/records/event-log.ts';
import { syntheticTerminalEvent } from '../conversations/turns/turn-record.ts';
import { createPage } from '../rpc/page.ts';
import { answerText } from '../turn-events.ts';
import { defineMethod } from './define-method.ts';
import { SessionId, TurnId, TurnStatusResult, UsageResult } from './schemas/schemas.ts';
import { readLastEventId, streamTurn } from './stream-turn.ts';

export const conversationResume = defineMethod({
  name: 'conversation.resume',
  summary:
    'Sends a turn’s events after a sequence number, then follows it live; over plain HTTP returns the stored events',
  scope: 'conversation',
  cost: 'read',
  params: z.strictObject({
    session_id: SessionId,
    turn_id: TurnId.optional().describe('Default: the running turn, or the last one'),
    after_seq: z.int().min(0).optional().describe('The last received sequence number'),
  }),
  result: z.object({
    session_id: z.string(),
    conversation_id: z.string(),
    turn_id: z.string(),
    status: TurnStatusResult,
    last_seq: z.int().describe('Sequence number of the last event so far'),
    content: z.string().describe('The text of the answer so far'),
    usage: UsageResult.optional(),
    events: z
      .array(z.object({ seq: z.int(), event: z.record(z.string(), z.unknown()) }))
      .optional()
      .describe('The events after `after_seq` if the transport cannot stream; at most 1 MiB'),
    more: z.literal(true).optional().describe('More events exist: call again with `after_seq` = `last_seq`'),
  }),
  errors: ['not_found'],
  example: {
    params: { session_id: 'my-session-123', after_seq: 1 },
    result: {
      session_id: 'my-session-123',
      conversation_id: 'conv_abc123',
      turn_id: 'turn_1',
      status: 'completed',
      last_seq: 4,
      content: 'Hi',
      events: [{ seq: 2, event: { AgentMessageDelta: { delta: 'Hi' } } }],
    },
  },
  async handle(params, context) {
    const { services, caller, requestMetadata } = context;
    const { session_id } = params;
    // If both are present, params take precedence over the header of a repeated request.
    const stopped = readLastEventId(requestMetadata.lastEventId);
    const turnId = params.turn_id ?? stopped?.turnId;
    const afterSeq = params.after_seq ?? stopped?.afterSeq ?? 0;
    if (context.transport === 'http') {
      const { conversations } = services;
      let snapshot = await conversations.snapshot(caller.keyId, session_id, turnId);
      const { lease } = snapshot;
      if (lease !== null && conversations.ownerState(lease) === 'expired') {
        // Stores the end before it is returned; otherwise an owner that is only late could still complete the turn.
        await conversations.settleAbandoned(caller.keyId, session_id, lease);
        snapshot = await conversations.snapshot(caller.keyId, session_id, turnId);
      }
      const { sessionId, conversationId, events, status, usage, ...turn } = snapshot;
      const beyond = syntheticTerminalEvent(turn, afterSeq);
      const after = beyond ? [beyond] : events.filter(({ seq }) => seq > afterSeq);
      const page = createPage<NumberedEvent>();
      const isWhole = after.every((numbered) => page.add(numbered));
      return {
        session_id: sessionId,
        conversation_id: conversationId,
        turn_id: turn.turnId,
        status,
        last_seq: (page.items.at(-1) ?? events.at(-1))?.seq ?? 0,
        content: answerText(events),
        ...(usage && { usage }),
        events: [...page.items],
        ...(!isWhole && { more: true as const }),
      };
    }
    const turn = await services.conversations.resume(caller.keyId, session_id, turnId, context.signal);
    const ended = await streamTurn(turn, afterSeq, context);
    return {
      session_id,
      conversation_id: turn.conversationId,
      turn_id: turn.turnId,
      status: ended.turn.status,
      last_seq: ended.lastSeq,
      content: answerText(ended.events),
      usage: ended.turn.usage,
    };
  },
});
