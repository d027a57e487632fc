// A prompt that waits for its admission, and the dependencies of the admission.
import type { Ids } from '../../clock.ts';
import type { Toolset } from '../../engines/engine.ts';
import type { RpcError } from '../../errors.ts';
import type { MessagePart } from '../../messages/message-parts.ts';
import type { Counting } from '../../store/ride.ts';
import type { Ref } from '../../store/store.ts';
import type { TurnDeps } from '../deps.ts';
import type { Lease } from '../records/documents.ts';
import type { OnBusy } from '../turns/lease.ts';

export interface FoundTools {
  /** Undefined when no server is connected. */
  readonly tools: Toolset | undefined;
}

export interface PromptRequest {
  readonly owner: string;
  readonly sessionId: string;
  /** The session id was generated for this prompt. */
  readonly isNew: boolean;
  readonly prompt: string;
  /** Of a prompt with images; `prompt` is its text. */
  readonly parts: readonly MessagePart[] | undefined;
  /** Resolved, `provider/model`. */
  readonly model: string;
  readonly onBusy: OnBusy;
  /** The prompt follows this message; later ones are dropped. */
  readonly afterSeq: number | undefined;
  readonly idempotency: { readonly key: string; readonly paramsHash: string } | undefined;
  /** The prompt can be forwarded to a companion, and must be when the session has MCP servers. */
  readonly canForward: boolean;
  /** The tools of the session's MCP servers, once they were looked for; only those of a marked session are. */
  readonly found?: FoundTools | undefined;
  /** Why no new turn may start; a duplicate of an idempotency key gets its answer all the same. */
  readonly refusal: RpcError | undefined;
  /** The call is not counted yet: nothing is changed but by the first commit, which may ride with the limiter's. */
  readonly counting?: Counting | undefined;
}

export interface AdmissionDeps extends TurnDeps {
  readonly ids: Ids;
  /** Aborted when this instance drains: prompts that wait here leave the queue. */
  readonly closing: AbortSignal;
  /** The tools that prompts of a session may use, its servers opened; undefined when no server is connected. */
  readonly toolset?:
    | ((owner: string, sessionId: string, signal: AbortSignal) => Promise<Toolset | undefined>)
    | undefined;
  /** Stops a running turn of this instance; other instances find the stop request through their watch. */
  stopLocal(turnId: string, reason: 'replaced'): void;
  /** Ends a turn that has a stop request, after a limited time by force. */
  awaitStop(ref: Ref, lease: Lease): Promise<void>;
  /** Erases a session that is being deleted or has expired. */
  erase(ref: Ref): Promise<void>;
}
