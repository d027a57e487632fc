// The documents of a conversation and their ids in the store; those of its turns are in turn-documents.ts. Stored names
// are snake_case, as operators read them in the console of the store.

import { hash } from 'node:crypto';
import { z } from 'zod';
import { type DocumentOf, defineDocument, type StoredAs } from '../../store/define-document.ts';
import type { Ref } from '../../store/store.ts';

/** UTF-16 units of the start of a message, for titles and previews. */
export const HEAD_CHARS = 120;

export const StoredUsage = z.object({
  input_tokens: z.number(),
  output_tokens: z.number(),
  total_tokens: z.number(),
  cached_input_tokens: z.number().exactOptional(),
  reasoning_tokens: z.number().exactOptional(),
  estimated: z.literal(true).exactOptional(),
});

/** Terminal states never change; `running` becomes exactly one of them. */
export const TurnStatus = z.enum(['running', 'completed', 'failed', 'cancelled', 'interrupted']);
export type TurnStatus = z.output<typeof TurnStatus>;

/** Why a turn failed, as `conversation.status` returns it. */
const TurnError = z.object({ reason: z.string(), message: z.string(), retryable: z.boolean() });
export type TurnError = StoredAs<typeof TurnError>;

/**
 * One message. Above INLINE_BYTES_MAX its text and its detail live in `parts` documents of their own (texts.ts), and
 * `content` is empty.
 */
const StoredMessage = z.object({
  seq: z.number(),
  role: z.enum(['user', 'assistant']),
  content: z.string(),
  parts: z.number(),
  /** Start of a text that is stored in parts. Absent in messages of older versions. */
  head: z.string().exactOptional(),
  /** UTF-8 bytes of the complete text and of the detail. */
  bytes: z.number(),
  turn_id: z.string(),
  created_at: z.string(),
  /** The answer is incomplete because the turn did not complete. */
  partial: z.boolean(),
  /**
   * Estimate for text of more tokens than its bytes suggest (base64, minified code, other scripts), and for a message
   * with images, which has fewer; absent for the rest.
   */
  tokens: z.number().exactOptional(),
  /** Tool calls, results and reasoning, JSON text (message-detail.ts); absent in a message of text only. */
  detail: z.string().exactOptional(),
  /** Of an answer: the model that answered. Absent in answers of older versions. */
  model: z.string().exactOptional(),
  /** Of an answer: the usage of its turn. */
  usage: StoredUsage.exactOptional(),
  /** Of an answer that the model did not end. */
  finish_reason: z.enum(['length', 'content_filter', 'other']).exactOptional(),
  /** Of the last message of a turn that failed. */
  error: TurnError.exactOptional(),
});
export type StoredMessage = StoredAs<typeof StoredMessage>;

/** The size of a conversation that a provider accepts, by the gateway's estimate. */
const ContextBudget = z.object({ model: z.string(), tokens: z.number() });
export type ContextBudget = StoredAs<typeof ContextBudget>;

/**
 * The running turn of a conversation: a lease with an epoch. Every later write of its owner is conditional on the
 * epoch.
 */
const Lease = z.object({
  turn_id: z.string(),
  epoch: z.number(),
  model: z.string(),
  started_at: z.string(),
  lease_until_ms: z.number(),
  /** Null without a stop request. */
  stop: z.enum(['cancelled', 'replaced']).nullable(),
  /** Id of the idempotency record of this turn, or null. */
  idempotency_id: z.string().nullable(),
  /** The params hash in that record; absent in leases of older versions. */
  params_hash: z.string().exactOptional(),
  /** When another instance last showed, by its own clock, that it follows the turn. */
  followed_at_ms: z.number().exactOptional(),
});
export type Lease = StoredAs<typeof Lease>;

/** A prompt that waits for the turn before it; the instance whose caller waits runs it. */
const QueuedPrompt = z.object({
  turn_id: z.string(),
  model: z.string(),
  enqueued_at: z.string(),
  /** Renewed by the waiting instance; after this time the entry has expired. */
  alive_until_ms: z.number(),
  idempotency_id: z.string().nullable(),
  params_hash: z.string().exactOptional(),
  /** Same as in the idempotency record. */
  prompt_turn: z.string().nullable().exactOptional(),
});
export type QueuedPrompt = StoredAs<typeof QueuedPrompt>;

/** What a session has that only companions can use: connected MCP servers, a terminal. */
export type CompanionState = 'mcp' | 'terminal';

export const Conversations = defineDocument({
  collection: 'conversations',
  schema: z.object({
    /** Key id; empty in a tombstone. */
    owner: z.string(),
    session_id: z.string(),
    conversation_id: z.string(),
    model: z.string(),
    created_at: z.string(),
    updated_at: z.string(),
    message_count: z.number(),
    /**
     * Estimated tokens of the messages, from which the context is trimmed in steps (context.ts); absent in documents of
     * older versions, where it counts from the next message.
     */
    message_tokens: z.number().exactOptional(),
    usage: StoredUsage,
    status: z.enum(['idle', 'running', 'cancelled', 'failed']),
    epoch: z.number(),
    turn: Lease.nullable(),
    last_turn: z.object({ turn_id: z.string(), status: TurnStatus, error: TurnError.exactOptional() }).nullable(),
    queue: z.array(QueuedPrompt),
    recent: z.array(StoredMessage),
    /** First seq of each chunk of older messages. */
    chunks: z.array(z.number()),
    /** The turn whose prompt was the last that dropped later messages (drop-messages.ts). */
    branch: z.string().exactOptional(),
    /** Budgets of models that refused the conversation as too long, the latest last. */
    budgets: z.array(ContextBudget).exactOptional(),
    /** Tombstone: the session is being erased and looks absent to every caller. */
    deleted: z.boolean(),
    /** Of a tombstone: the turn that ran, until its owner has erased what it wrote after that. */
    ending: Lease.exactOptional(),
    /**
     * Bytes of all messages, and the part of them that is in the owner's total (storage.ts). Absent in documents of
     * older versions.
     */
    stored_bytes: z.number().exactOptional(),
    counted_bytes: z.number().exactOptional(),
    /** What only companions can use of the session (`CompanionState`); it may have ended. */
    companion: z.array(z.string()).exactOptional(),
    /** The caller's title. */
    title: z.string().exactOptional(),
    /** The start of the first prompt. */
    default_title: z.string().exactOptional(),
    /** JSON text. */
    metadata: z.string().exactOptional(),
    /** Hashes of the metadata, for queries (session-fields.ts). */
    labels: z.array(z.string()).exactOptional(),
    /** Days after the last prompt or answer for which it is kept; absent: those of the deployment (retention.ts). */
    retention_days: z.number().exactOptional(),
    /** UTC day on which it expires, as of the last prompt; absent: never. */
    expires_on: z.string().exactOptional(),
  }),
  queries: [
    { where: ['owner'], orderBy: 'updated_at', direction: 'desc' },
    { where: ['owner'], contains: 'labels', orderBy: 'updated_at', direction: 'desc' },
    { orderBy: 'expires_on' },
  ],
  owned: { orderBy: 'created_at' },
  id: 'hash of key id and session id',
  holds: 'state, lease, queue, the newest messages',
  writtenBy: 'prompts, cancel, update, delete',
  kept: 'until it is deleted, or `GATEWAY_RETENTION_DAYS` after its last use',
});
export type ConversationDocument = DocumentOf<typeof Conversations>;

/** Oldest message first; the last chunk grows until it is full. */
export const Messages = defineDocument({
  collection: 'messages',
  schema: z.object({ messages: z.array(StoredMessage) }),
  owned: 'session',
  id: 'conversation id and number',
  holds: 'older messages in chunks of about 16 KiB',
  writtenBy: 'prompts',
  kept: 'as long as its conversation',
});

export type MessagesDocument = DocumentOf<typeof Messages>;

/**
 * One part of a long text, or of a long detail. Older versions read only the text: it is empty in a part of the detail.
 */
export const Texts = defineDocument({
  collection: 'texts',
  schema: z.object({ text: z.string(), detail: z.string().exactOptional() }),
  owned: 'session',
  id: 'conversation id, number of the message and of the part',
  holds: 'texts, and tool calls with results, over 32 KiB',
  writtenBy: 'prompts',
  kept: 'as long as its conversation',
});

/**
 * The document of a session of a key. The owner is part of the hashed id, so the session id of another key names
 * another, absent document: no caller has to check the owner, and the two cases cannot be distinguished.
 */
export function conversationRef(owner: string, sessionId: string): Ref {
  return Conversations.ref(hashId(owner, sessionId));
}

/**
 * Messages and texts belong to the conversation id, not to the session id: a session that was deleted and started again
 * shares no document, stored or cached, with the deleted one.
 */
export function messagesRef(conversation: string, chunk: number): Ref {
  return Messages.ref(`${conversation}-${chunk}`);
}

export function textRef(conversation: string, seq: number, part: number): Ref {
  return Texts.ref(`${conversation}-${seq}-${part}`);
}

/** The id of a document that belongs to an owner and a name of the owner's choice. */
export function hashId(owner: string, name: string): string {
  return hash('sha256', `${owner.length}:${owner}${name}`, 'base64url');
}
