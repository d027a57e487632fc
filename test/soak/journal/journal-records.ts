// The records that the journal keeps of a run: admissions, sessions, prompts, turns, deliveries.
import type { Prompt } from './prompts.ts';

export type Json = Readonly<Record<string, unknown>>;

export interface Admission {
  readonly keyId: string;
  /** Process that admitted: each has its own degraded bucket. */
  readonly process: string;
  readonly limit: number;
  readonly remaining: number;
  /** End of the window, epoch seconds. */
  readonly reset: number;
  readonly cost: number;
}

export interface Session {
  readonly keyId: string;
  readonly id: string;
  /** The session of which it is a copy, and the messages that were copied. */
  readonly forkOf?: Session;
  readonly copied: readonly Json[];
  /** Scenarios that use it at present. */
  users: number;
  prompts: number;
  /** `maybe`: a delete was sent and got no response. */
  deleted: 'no' | 'maybe' | 'yes';
  /** A prompt of it was acknowledged, so it exists. */
  exists: boolean;
  /** It was erased: after it had expired, or with its owner. */
  gone: 'expired' | 'erased' | undefined;
  /** Its id was used again after that, for another Session. */
  isReused: boolean;
  /** The last title that was acknowledged; undefined after an update without a response. */
  title: string | undefined;
}

/** A prompt that a client has sent, perhaps several times under one idempotency key. */
export interface SentPrompt {
  readonly prompt: Prompt;
  readonly session: Session;
  /** `after_seq`: later messages are dropped. */
  readonly afterSeq: number | undefined;
  readonly sentAtMs: number;
  /** Calls of it that have no response yet. */
  pending: number;
  /** When the last of its calls had a response; Infinity before, and if one of them got none. */
  settledAtMs: number;
  /** When its answer was first received. */
  answeredAtMs: number | undefined;
  /** A call of it got no response, so a turn may have run that no client has seen. */
  isLost: boolean;
  /** Number of its answer in the history, once acknowledged. */
  answerSeq: number | undefined;
}

/** An idempotency key that was answered, and its call. */
export interface AnsweredKey {
  readonly session: Session;
  readonly params: Json;
  readonly result: Json;
}

export interface Turn {
  readonly id: string;
  readonly session: Session;
  /** Digests of the events that were received, by seq. */
  readonly events: Map<number, string>;
  status: string | undefined;
  /** When a client first received a terminal state, by performance.now(). */
  terminalAtMs: number | undefined;
  /** A client received the event that ends it. */
  isEndReceived: boolean;
  /** Number of the event that ends it, unless another instance may have written that for a lost owner. */
  lastSeq: number | undefined;
  /** The answer that was acknowledged, and its prompt. */
  answer: string | undefined;
  answered: SentPrompt | undefined;
}

export interface Delivery {
  readonly keyId: string;
  readonly id: string;
  readonly body: string;
  /** Event ids of its acknowledgements. */
  readonly eventIds: string[];
  /** Acknowledgements with `duplicate: false`. */
  firsts: number;
}
