// A turn in its three states: admitted, running on this instance, ended.
import type { Credential, Engine, Toolset } from '../../engines/engine.ts';
import type { OutputSchema } from '../../json/output-schema.ts';
import type { TurnSettings } from '../../messages/turn-settings.ts';
import type { Ref } from '../../store/store.ts';
import type { Span } from '../../telemetry/timings.ts';
import type { AbortReason } from '../../turn-events.ts';
import type { ConversationDocument, Lease } from '../records/documents.ts';
import type { EventLog, NumberedEvent } from '../records/event-log.ts';
import type { TurnDocument } from '../records/turn-documents.ts';

/** Another model for the same turn. */
export interface Fallback extends Pick<AdmittedTurn, 'engine'> {
  readonly model: string;
  /** Fits the tools and the budget to the model. */
  prepare(): Pick<AdmittedTurn, 'tools' | 'budgetTokens'>;
}

export interface AdmittedTurn {
  readonly ref: Ref;
  readonly conversation: ConversationDocument;
  readonly lease: Lease;
  /** The MCP servers that the session had are no longer connected. */
  readonly mcpLost: boolean;
  readonly engine: Engine;
  readonly instructions: string | undefined;
  readonly settings: TurnSettings | undefined;
  readonly outputSchema: OutputSchema | undefined;
  readonly credential: Credential | undefined;
  readonly tools: Toolset | undefined;
  readonly budgetTokens: number;
  /** Whether the model takes images. */
  readonly takesImages: () => Promise<boolean>;
  /** Resolves when older messages that were read during the admission are in memory. */
  readonly prefetched: Promise<void>;
  /** The models that are called if the ones before them fail. */
  readonly fallbacks: readonly Fallback[];
  readonly retryWaitMsMax: number | undefined;
  /** The phases before the turn runs. */
  readonly spans: readonly Span[];
}

export interface RunningTurn {
  readonly turnId: string;
  readonly owner: string;
  readonly sessionId: string;
  readonly log: EventLog;
  /** Rejects when the store could not be reached to settle the turn, or the session was deleted. */
  readonly done: Promise<EndedTurn>;
  /** Durations of the phases; complete when `done`. */
  readonly spans: readonly Span[];
  stop(reason: AbortReason): void;
}

/** The end of a turn as it is stored; the same for the caller that waited and for every later reader. */
export interface EndedTurn {
  readonly turn: TurnDocument;
  readonly events: readonly NumberedEvent[];
  /** The error below a failure, for the log; only on the instance that ran the turn. */
  readonly cause?: unknown;
}
