// `conversation.prompt`: one durable turn of a conversation.
import { z } from 'zod';
import { defineMethod } from './define-method.ts';
import { answerPrompt, PROMPT_ERRORS, PromptParams, placeOfPrompt } from './prompt-turn.ts';
import { UsageResult } from './schemas/schemas.ts';
import { Warnings } from './schemas/settings.ts';

export const conversationPrompt = defineMethod({
  name: 'conversation.prompt',
  summary: 'Sends a prompt and returns the model’s answer; streams the events of the turn over SSE and WebSocket',
  scope: 'conversation',
  cost: 'work',
  isTurn: true,
  startsEarly: true,
  params: PromptParams,
  result: z.object({
    type: z.literal('ai_response'),
    conversation_id: z.string(),
    content: z.string(),
    model: z.string(),
    timestamp: z.string(),
    events: z
      .array(z.record(z.string(), z.unknown()))
      .readonly()
      .describe('Events of the turn, with Codex event names'),
    session_id: z.string(),
    turn_id: z.string(),
    usage: UsageResult,
    finish_reason: z
      .enum(['length', 'content_filter', 'other'])
      .optional()
      .describe('Present if the answer is incomplete: output limit, content filter or another reason'),
    message_seq: z.int().optional().describe('Number of the answer in `conversation.history`'),
    output: z.unknown().optional().describe('The JSON in `content`; present with `output_schema`'),
    warnings: Warnings.optional(),
  }),
  errors: PROMPT_ERRORS,
  example: {
    params: { prompt: 'Write a Rust function that adds two numbers', session_id: 'my-session-123' },
    result: {
      type: 'ai_response',
      conversation_id: 'conv_abc123',
      content: 'fn add(a: i32, b: i32) -> i32 {\n    a + b\n}',
      model: 'anthropic/claude-sonnet-5-5',
      timestamp: '2026-11-13T14:20:00.000Z',
      events: [
        { TaskStarted: { turn_id: 'turn_1', model: 'anthropic/claude-sonnet-5-5' } },
        { AgentMessage: { message: 'fn add(a: i32, b: i32) -> i32 {\n    a + b\n}' } },
        { TaskComplete: { turn_id: 'turn_1' } },
      ],
      session_id: 'my-session-123',
      turn_id: 'turn_1',
      usage: { input_tokens: 14, output_tokens: 21, total_tokens: 35 },
    },
  },
  placeOf: (params, context) => placeOfPrompt(params, context),
  handle: (params, context) => answerPrompt(params, context),
});
