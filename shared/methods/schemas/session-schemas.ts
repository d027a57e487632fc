// A session as conversation.list and conversation.update return it, and the schemas of what a caller sets on it.
import { z } from 'zod';
import type { ConversationDocument } from '../../conversations/records/documents.ts';
import { metadataOf, previewOf, titleOf } from '../../conversations/records/session-fields.ts';
import { UsageResult } from './schemas.ts';

const PAIRS_MAX = 16;
const KEY_CHARS_MAX = 64;
const VALUE_CHARS_MAX = 512;

export const Metadata = z
  .record(z.string().min(1).max(KEY_CHARS_MAX), z.string().max(VALUE_CHARS_MAX))
  .refine((metadata) => Object.keys(metadata).length <= PAIRS_MAX, `must have at most ${PAIRS_MAX} keys`);

export const SessionStatus = z.enum(['idle', 'running', 'cancelled', 'failed']);

/** What a caller sets on a session; also part of the answer of `conversation.status`. */
export const SessionLabels = {
  title: z.string().optional().describe('Of `conversation.update`, else the start of the first prompt'),
  metadata: z.record(z.string(), z.string()).optional().describe('Of `conversation.update`'),
  retention_days: z.int().optional().describe('Of `conversation.update`'),
};

export const SessionResult = z.object({
  session_id: z.string(),
  conversation_id: z.string(),
  status: SessionStatus,
  model: z.string(),
  created_at: z.string(),
  updated_at: z.string().describe('Time of the last prompt or answer'),
  message_count: z.int(),
  usage: UsageResult,
  ...SessionLabels,
  preview: z.string().optional().describe('The start of the newest message'),
});

/** For the examples of methods. */
export const SESSION_EXAMPLE = {
  session_id: 'my-session-123',
  conversation_id: 'conv_abc123',
  status: 'idle',
  model: 'anthropic/claude-sonnet-5-5',
  created_at: '2026-11-13T14:00:00.000Z',
  updated_at: '2026-11-13T14:20:00.000Z',
  message_count: 2,
  usage: { input_tokens: 14, output_tokens: 21, total_tokens: 35 },
  title: 'Write a Rust function that adds two numbers',
  preview: 'fn add(a: i32, b: i32) -> i32 {',
} as const satisfies z.input<typeof SessionResult>;

export function toSession(conversation: ConversationDocument): z.input<typeof SessionResult> {
  const { session_id, conversation_id, status, model, created_at, updated_at, message_count, usage } = conversation;
  const preview = previewOf(conversation);
  return {
    ...{ session_id, conversation_id, status, model, created_at, updated_at, message_count, usage },
    ...toLabels(conversation),
    ...(preview !== undefined && { preview }),
  };
}

export function toLabels(conversation: ConversationDocument) {
  const title = titleOf(conversation);
  const metadata = metadataOf(conversation);
  const { retention_days } = conversation;
  return {
    ...(title !== undefined && { title }),
    ...(metadata !== undefined && { metadata }),
    ...(retention_days !== undefined && { retention_days }),
  };
}
