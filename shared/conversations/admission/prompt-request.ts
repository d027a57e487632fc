// A prompt that waits for its admission, and the dependencies of the admission.
import type { Ids } from '../../clock.ts';
import type { RpcError } from '../../errors.ts';
import type { Ref } from '../../store/store.ts';
import type { TurnDeps } from '../deps.ts';
import type { Lease } from '../records/documents.ts';
import type { OnBusy } from '../turns/lease.ts';

export interface PromptRequest {
  readonly owner: string;
  readonly sessionId: string;
  /** The session id was generated for this prompt. */
  readonly isNew: boolean;
  readonly prompt: string;
  /** Resolved, `provider/model`. */
  readonly model: string;
  readonly onBusy: OnBusy;
  readonly idempotency: { readonly key: string; readonly paramsHash: string } | undefined;
  /** The prompt can be forwarded to the companion, and must be when the companion has the session's tools. */
  readonly canForward: boolean;
  /** Whether this instance has tools for the session now. */
  hasTools(sessionId: string): boolean;
  /** The error with which a new turn is refused; a duplicate of an idempotency key is still answered. */
  readonly refusal: RpcError | undefined;
}

export interface AdmissionDeps extends TurnDeps {
  readonly ids: Ids;
  /** Aborted when this instance drains: prompts that wait here leave the queue. */
  readonly closing: AbortSignal;
  /** Stops a running turn of this instance; other instances find the stop request through their watch. */
  stopLocal(turnId: string, reason: 'replaced'): void;
  /** Ends a turn that has a stop request, after a limited time by force. */
  awaitStop(ref: Ref, lease: Lease): Promise<void>;
  /** Finishes the erasure of a session that is being deleted. */
  erase(ref: Ref): Promise<void>;
}
