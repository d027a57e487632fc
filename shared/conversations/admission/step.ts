// One run of the transaction that decides about a prompt (decide.ts), and what it may decide.
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
  | { readonly kind: 'elsewhere' }
  /** The session has MCP servers: their tools are needed first. */
  | { readonly kind: 'tools' }
  /** Another turn has the idempotency key and answers for it. */
  | { readonly kind: 'duplicate'; readonly turnId: string; readonly sessionId: string }
  | { readonly kind: 'erasing' }
  /** An earlier attempt has started this session for the prompt. */
  | { readonly kind: 'begun'; readonly sessionId: string }
  | { readonly kind: 'abandoned' | 'doubtful'; readonly lease: Lease }
  /** Prompts in the queue whose instances are gone have to leave it first. */
  | { readonly kind: 'expired' }
  /** In the queue; `stopping` is the running turn that has got a stop request. */
  | { readonly kind: 'waiting'; readonly stopping: Lease | undefined };

/** One run of the transaction. */
export interface Attempt {
  readonly ref: Ref;
  readonly keyRef: Ref | undefined;
  /** The owner's total of stored bytes, where it has to be read. */
  readonly totalRef: Ref | undefined;
  readonly turnId: string;
  readonly request: PromptRequest;
  /** The prompt has had a place in the queue: when the place is gone, it was dropped. */
  readonly queued: boolean;
  readonly conversationId: string;
  readonly promptBytes: number;
  readonly nowMs: number;
  /** `nowMs` as stored. */
  readonly now: string;
}

/** What the transaction writes, and the step that follows its commit. `toStep` throws a refusal. */
export interface Decision {
  readonly writes: readonly Write[];
  readonly toStep: () => Step;
}

export function follow(toStep: () => Step): Decision {
  return { writes: [], toStep };
}

/** The error is thrown after the commit: a decision from cached documents counts only when the store confirms them. */
export function refuse(toError: () => RpcError): Decision {
  return follow(() => {
    throw toError();
  });
}
