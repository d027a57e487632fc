// The events of a turn: their names, which are those of Codex, and their payloads. Engines yield them, conversations
// number and store them, transports send them. Stored documents and clients contain the names, so a renamed event
// breaks both.
import type { SettingWarning } from './messages/turn-settings.ts';

/** Tokens, as counted by the provider. */
export interface Usage {
  readonly input_tokens: number;
  readonly output_tokens: number;
  readonly total_tokens: number;
  /** The part of the input tokens that came from the provider's prompt cache; absent where it reports none. */
  readonly cached_input_tokens?: number;
  /** The part of the output tokens that the model reasoned with; absent where the provider reports none. */
  readonly reasoning_tokens?: number;
  /** Part of the usage is an estimate: providers report tokens at the end of an answer, and this answer was cut off. */
  readonly estimated?: true;
}

/** Why a turn did not complete. */
export type AbortReason = 'cancelled' | 'replaced' | 'interrupted' | 'expired';

/** Why an answer is incomplete: the model's output limit, its provider's policy, or another cause. */
export type CutReason = 'length' | 'content_filter' | 'other';

/** A tool of the session that the model of a turn does not support. */
export interface OmittedTool {
  readonly server: string;
  readonly tool: string;
  readonly reason: string;
}

/** A model that failed before it had answered anything. */
export interface FailedModel {
  readonly model: string;
  readonly reason: string;
  readonly message: string;
}

/** One file of a patch, relative to the workspace. */
export interface FileChange {
  readonly path: string;
  /** `add`, `delete` or `update`. */
  readonly change: string;
}

/** Events that engines yield. The conversations yield the other events. */
export interface EnginePayloads {
  readonly AgentMessageDelta: { readonly delta: string };
  readonly AgentReasoningDelta: { readonly delta: string };
  /** Repeats the deltas since the one before. */
  readonly AgentReasoning: { readonly text: string };
  readonly TokenCount: Usage;
  /** A call to the provider failed and is repeated, after a wait if the provider requested one; the turn continues. */
  readonly StreamError: { readonly message: string; readonly attempt: number; readonly retry_in_ms?: number };
  /**
   * The provider refused the conversation as too long: the call is repeated with its newest `messages` messages,
   * without the `trimmed` oldest ones.
   */
  readonly ContextTrimmed: {
    readonly messages: number;
    readonly trimmed: number;
    /** New budget by the gateway's estimate, also used for the next turns of the conversation with this model. */
    readonly budget_tokens: number;
  };
  readonly ExecCommandBegin: { readonly call_id: string; readonly command: readonly string[]; readonly cwd: string };
  readonly ExecCommandOutputDelta: {
    readonly call_id: string;
    readonly stream: 'stdout' | 'stderr';
    /** At most 8 KiB of characters; of one command at most 64 KiB are sent. */
    readonly chunk: string;
  };
  readonly ExecCommandEnd: {
    readonly call_id: string;
    readonly exit_code: number;
    readonly duration_ms: number;
    /**
     * stdout and stderr in the order of arrival, cut at 16 KiB of characters; a client that connects late may have
     * missed the first deltas.
     */
    readonly aggregated_output: string;
  };
  /** At most 100 changes are sent. */
  readonly PatchApplyBegin: { readonly call_id: string; readonly changes: readonly FileChange[] };
  readonly PatchApplyEnd: {
    readonly call_id: string;
    readonly success: boolean;
    readonly changes: readonly FileChange[];
  };
  readonly McpToolCallBegin: {
    readonly call_id: string;
    readonly server: string;
    readonly tool: string;
    /** Left out when their JSON is larger than 4 KiB. */
    readonly arguments?: Readonly<Record<string, unknown>>;
  };
  readonly McpToolCallEnd: {
    readonly call_id: string;
    readonly server: string;
    readonly tool: string;
    readonly success: boolean;
    readonly duration_ms: number;
    /** Text, cut at 4 KiB of characters. */
    readonly result?: string;
  };
}

/** All events of a turn by name. Exactly one of TaskComplete, TurnAborted and Error ends a turn. */
export interface TurnPayloads extends EnginePayloads {
  readonly TaskStarted: {
    readonly turn_id: string;
    readonly model: string;
    readonly started_at: string;
    /**
     * Number of messages sent to the model, their estimated tokens, and the number of older messages beyond its budget.
     */
    readonly context: { readonly messages: number; readonly tokens: number; readonly trimmed: number };
    /** The models before this one that failed, in the order in which they were called. */
    readonly fallback_from?: readonly FailedModel[];
    /** The session's MCP servers have ended since they were connected: the turn runs without them. */
    readonly mcp_lost?: true;
    /** MCP servers of the session that were started again since its last turn: what they had in memory is gone. */
    readonly restarted_servers?: readonly string[];
    /** Tools of the session's MCP servers that the model cannot be given: the first 64. */
    readonly omitted_tools?: readonly OmittedTool[];
    /** Their number, if it is more than 64. */
    readonly omitted_tools_count?: number;
  };
  readonly AgentMessage: { readonly message: string };
  readonly TaskComplete: {
    readonly turn_id: string;
    readonly usage: Usage;
    /** Present when the answer was cut. */
    readonly finish_reason?: CutReason;
    /** Settings that the model does not support. */
    readonly warnings?: readonly SettingWarning[];
    /** The answer is JSON of the prompt's `output_schema`. */
    readonly structured?: true;
  };
  readonly TurnAborted: { readonly turn_id: string; readonly reason: AbortReason };
  readonly Error: { readonly turn_id: string; readonly reason: string; readonly message: string };
}

/** An object with exactly one member of `Payloads`. */
type OneOf<Payloads> = { [Name in keyof Payloads]: { readonly [Only in Name]: Payloads[Name] } }[keyof Payloads];

export type EngineEvent = OneOf<EnginePayloads>;
export type TurnEvent = OneOf<TurnPayloads>;

/** An event as clients receive it: `if (event.AgentMessageDelta) write(event.AgentMessageDelta.delta)`. */
export type EventBody = Partial<TurnPayloads>;

/** Whether this event ends its turn. */
export function isTerminal(event: EventBody): boolean {
  return event.TaskComplete !== undefined || event.TurnAborted !== undefined || event.Error !== undefined;
}

/** The answer's text in these events. */
export function answerText(events: readonly { readonly event: EventBody }[]): string {
  return events.map(({ event }) => event.AgentMessageDelta?.delta ?? '').join('');
}
