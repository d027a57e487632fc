// Schemas that several methods share, in wire names.
import { z } from 'zod';

/** A session id is a name for a conversation, chosen by the caller. */
export const SessionId = z
  .string()
  .min(1)
  .max(128)
  .regex(/^[^\p{Cc}]+$/u, 'must not contain control characters')
  .describe('Name of the session, chosen by the caller');

/** An absolute path of a directory inside the sandbox. */
export const Directory = z
  .string()
  .max(4096)
  .regex(/^\/[^\0]*$/, 'must be an absolute path');

export const TurnId = z
  .string()
  .min(1)
  .max(128)
  .regex(/^[\w-]+$/, 'is not a turn id');

export const Cursor = z.string().min(1).max(512).describe('`next_cursor` of the previous page');

export const UsageResult = z
  .object({
    input_tokens: z.number(),
    output_tokens: z.number(),
    total_tokens: z.number(),
    cached_input_tokens: z
      .number()
      .optional()
      .describe('The part of the input tokens from the provider’s prompt cache; absent where it reports none'),
    reasoning_tokens: z
      .number()
      .optional()
      .describe('The part of the output tokens for reasoning; absent where the provider reports none'),
    estimated: z.literal(true).optional().describe('True: a part is estimated, because an answer was cut off'),
  })
  .describe('Tokens, as counted by the provider');

export const TurnError = z
  .object({ reason: z.string(), message: z.string(), retryable: z.boolean() })
  .describe('Why the turn failed: the error of its prompt');

export const TurnStatusResult = z.enum(['running', 'completed', 'failed', 'cancelled', 'interrupted']);
