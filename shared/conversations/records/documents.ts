// The documents of a conversation and where they live. Stored names are snake_case, because the owner reads them in the
// console.

import { hash } from 'node:crypto';
import type { Ref } from '../../store/store.ts';
import type { TurnEvent, Usage } from '../../turn-events.ts';

/** Terminal states never change; `running` becomes exactly one of them. */
export type TurnStatus = 'running' | 'completed' | 'failed' | 'cancelled' | 'interrupted';

/**
 * One message. Text above INLINE_BYTES_MAX lives in `parts` documents of their own (texts.ts) and `content` is empty.
 */
export interface StoredMessage {
  readonly seq: number;
  readonly role: 'user' | 'assistant';
  readonly content: string;
  readonly parts: number;
  /** UTF-8 bytes of the whole text. */
  readonly bytes: number;
  readonly turn_id: string;
  readonly created_at: string;
  /** The answer was cut off: the turn did not complete. */
  readonly partial: boolean;
  /**
   * Estimate for text of more tokens than its bytes suggest (base64, minified code, other scripts); absent for the
   * rest.
   */
  readonly tokens?: number;
}

/** What a provider was found to take of a conversation, by the gateway's estimate. */
export interface ContextBudget {
  readonly model: string;
  readonly tokens: number;
}

/**
 * The running turn of a conversation: a lease with an epoch. Every later write of its owner is conditional on the
 * epoch.
 */
export interface Lease {
  readonly turn_id: string;
  readonly epoch: number;
  readonly model: string;
  readonly started_at: string;
  readonly lease_until_ms: number;
  /** Null while no caller has asked the owner to stop. */
  readonly stop: 'cancelled' | 'replaced' | null;
  /** Id of the idempotency record that names this turn, else null. */
  readonly idempotency_id: string | null;
  /** What that record says of the params; absent in leases of older versions. */
  readonly params_hash?: string;
}

/** A prompt waiting for the turn before it; run by the instance whose caller waits for it. */
export interface QueuedPrompt {
  readonly turn_id: string;
  readonly model: string;
  readonly enqueued_at: string;
  /** Kept alive by the waiting instance; past it the entry has expired. */
  readonly alive_until_ms: number;
  readonly idempotency_id: string | null;
  readonly params_hash?: string;
  /** As in the idempotency record. */
  readonly prompt_turn?: string | null;
}

/** What of a session can be in the memory of the companion: connected MCP servers, a terminal. */
export type CompanionState = 'mcp' | 'terminal';

/** `conversations/<hash of owner and session id>`: state, lease and recent history of one session. No TTL. */
export interface ConversationDocument {
  /** Key id; empty in a tombstone. */
  readonly owner: string;
  readonly session_id: string;
  readonly conversation_id: string;
  readonly model: string;
  readonly created_at: string;
  readonly updated_at: string;
  readonly message_count: number;
  readonly usage: Usage;
  readonly status: 'idle' | 'running' | 'cancelled' | 'failed';
  readonly epoch: number;
  readonly turn: Lease | null;
  readonly last_turn: { readonly turn_id: string; readonly status: TurnStatus } | null;
  readonly queue: readonly QueuedPrompt[];
  readonly recent: readonly StoredMessage[];
  /** First seq of each chunk of older messages. */
  readonly chunks: readonly number[];
  /** Of models that refused the conversation for its length; the latest last. */
  readonly budgets?: readonly ContextBudget[];
  /** Tombstone: the session is being erased and looks absent to everybody. */
  readonly deleted: boolean;
  /**
   * Bytes of all messages, and how many of them the owner's total has (storage.ts). Absent in documents of older
   * versions.
   */
  readonly stored_bytes?: number;
  readonly counted_bytes?: number;
  /** What the companion holds for the session, or held: it may have gone with its instance. */
  readonly companion?: readonly CompanionState[];
}

/** `messages/<conversation id>-<n>`: older messages, oldest first; the last chunk grows until it is full. No TTL. */
export interface MessagesDocument {
  readonly messages: readonly StoredMessage[];
}

/** `turns/<turn id>`: how a turn stands, and the newest part of its events. TTL: TURN_KEPT_MS after its end. */
export interface TurnDocument {
  /**
   * The conversation id: new for every life of a session, so it ties the turn to its owner and to what `delete` erases.
   */
  readonly conversation: string;
  readonly session_id: string;
  readonly model: string;
  readonly status: TurnStatus;
  readonly started_at: string;
  readonly ended_at: string | null;
  readonly usage: Usage;
  /** Highest seq written. */
  readonly seq: number;
  /** First seq of each sealed chunk in `turn_events/<turn id>-<n>`. */
  readonly chunks: readonly number[];
  /** Events from `first_seq` on, JSON text (event-log.ts). */
  readonly first_seq: number;
  readonly events: string;
  /**
   * The terminal event when another instance than the owner ended the turn; its seq leaves room for events that
   * the owner never stored.
   */
  readonly last_event: { readonly seq: number; readonly event: TurnEvent } | null;
  readonly idempotency_id: string | null;
  /** What the caller was answered when the turn failed; null otherwise. */
  readonly failure: {
    readonly reason: string;
    readonly message: string;
    readonly data: string;
    readonly retryable: boolean;
    readonly retry_after_ms: number | null;
  } | null;
}

/** `turn_events/<turn id>-<n>`: a sealed chunk of events. TTL as its turn. */
export interface TurnEventsDocument {
  readonly first_seq: number;
  readonly events: string;
}

/** `idempotency/<hash of owner and key>`: which turn answers this key. TTL 24 h. */
export interface IdempotencyDocument {
  readonly params_hash: string;
  readonly turn_id: string;
  readonly session_id: string;
  /**
   * The turn failed in a way that another attempt may not: the key is free, and the same params go on in the same
   * session.
   */
  readonly released?: boolean;
  /** Of a released key: the turn whose message holds the prompt, null where none was stored. */
  readonly prompt_turn?: string | null;
}

/** Turns are kept as long as their idempotency records need them. */
export const TURN_KEPT_MS = 25 * 3_600_000;
export const IDEMPOTENCY_KEPT_MS = 24 * 3_600_000;

/**
 * Doc id of a session of a key. The owner is part of the hash, so another key's session id names another, absent
 * document: no check can be forgotten, and the two cases cannot be distinguished.
 */
export function conversationRef(owner: string, sessionId: string): Ref {
  return { collection: 'conversations', id: hashId(owner, sessionId) };
}

/**
 * Messages and texts hang on the conversation id, not on the session's: a session that was deleted and started again
 * shares no document (and no cached one) with its former life.
 */
export function messagesRef(conversation: string, chunk: number): Ref {
  return { collection: 'messages', id: `${conversation}-${chunk}` };
}

export function textRef(conversation: string, seq: number, part: number): Ref {
  return { collection: 'texts', id: `${conversation}-${seq}-${part}` };
}

export function turnRef(turnId: string): Ref {
  return { collection: 'turns', id: turnId };
}

export function turnEventsRef(turnId: string, chunk: number): Ref {
  return { collection: 'turn_events', id: `${turnId}-${chunk}` };
}

export function idempotencyRef(owner: string, key: string): Ref {
  return { collection: 'idempotency', id: hashId(owner, key) };
}

function hashId(owner: string, name: string): string {
  return hash('sha256', `${owner.length}:${owner}${name}`, 'base64url');
}
