// The input and the possible results of the transaction that decides about a prompt (decide.ts).
import type { RpcError } from '../../errors.ts';
import type { Ref, Write } from '../../store/store.ts';
import type { ConversationDocument, Lease } from '../records/documents.ts';
import type { PromptRequest } from './prompt-request.ts';

export type Step =
  | {
      readonly kind: 'admitted';
      readonly conversation: ConversationDocument;
      readonly lease: Lease;
      /** The session had MCP servers, and none of them is connected any more. */
      readonly mcpLost: boolean;
    }
  /** The session has MCP servers, which a companion opens. */
  | { readonly kind: 'on_companion' }
  /** The session has MCP servers: their tools are needed first. */
  | { readonly kind: 'tools' }
  /** Another turn has the idempotency key and answers for it. */
  | { readonly kind: 'duplicate'; readonly turnId: string; readonly sessionId: string }
  | { readonly kind: 'erasing' }
  /** An earlier attempt has started this session for the prompt. */
  | { readonly kind: 'started'; readonly sessionId: string }
  | { readonly kind: 'abandoned' | 'unknown_owner'; readonly lease: Lease }
  /** Expired entries must be removed from the queue first. */
  | { readonly kind: 'expired' }
  /** In the queue; `stopping` is the running turn, which has a stop request. */
  | { readonly kind: 'waiting'; readonly stopping: Lease | undefined };

/** One run of the transaction. */
export interface Attempt {
  readonly ref: Ref;
  readonly keyRef: Ref | undefined;
  /** The owner's total of stored bytes, if it must be read. */
  readonly totalRef: Ref | undefined;
  readonly turnId: string;
  readonly request: PromptRequest;
  /** The prompt had a queue entry; if the entry is missing now, it was removed. */
  readonly queued: boolean;
  readonly conversationId: string;
  readonly promptBytes: number;
  readonly nowMs: number;
  /** `nowMs` as stored. */
  readonly now: string;
}

/** The writes of the transaction, and the step after its commit. `toStep` throws a refusal. */
export interface Decision {
  readonly writes: readonly Write[];
  readonly toStep: () => Step;
}

export function follow(toStep: () => Step): Decision {
  return { writes: [], toStep };
}

/**
 * Throws the error after the commit, because a decision from cached documents is valid only if the store confirms their
 * versions.
 */
export function refuse(toError: () => RpcError): Decision {
  return follow(() => {
    throw toError();
  });
}
