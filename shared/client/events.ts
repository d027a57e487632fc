// The events of a running turn, with their names on the wire (`conversation.event`). An event has exactly one
// member; names that a newer gateway adds are ignored by reading only known ones.
import type { Methods } from './methods.ts';

type Usage = Methods['conversation.prompt']['result']['usage'];
type FileChange = { readonly path: string; readonly change: string };

/** `if (event.AgentMessageDelta) write(event.AgentMessageDelta.delta)` */
export interface EventBody {
  readonly TaskStarted?: {
    readonly turn_id: string;
    readonly model: string;
    readonly started_at: string;
    /** Tools of the session's MCP servers that this model cannot be given: the first 64. */
    readonly omitted_tools?: readonly { readonly server: string; readonly tool: string; readonly reason: string }[];
    /** How many they are, where that is more. */
    readonly omitted_tools_count?: number;
  };
  readonly AgentMessageDelta?: { readonly delta: string };
  readonly AgentMessage?: { readonly message: string };
  readonly AgentReasoning?: { readonly text: string };
  readonly TokenCount?: Usage;
  readonly McpToolCallBegin?: { readonly call_id: string; readonly server: string; readonly tool: string };
  readonly McpToolCallEnd?: {
    readonly call_id: string;
    readonly server: string;
    readonly tool: string;
    readonly success: boolean;
    readonly duration_ms: number;
  };
  readonly ExecCommandBegin?: { readonly call_id: string; readonly command: readonly string[]; readonly cwd: string };
  readonly ExecCommandOutputDelta?: {
    readonly call_id: string;
    readonly stream: 'stdout' | 'stderr';
    readonly chunk: string;
  };
  readonly ExecCommandEnd?: { readonly call_id: string; readonly exit_code: number; readonly duration_ms: number };
  readonly PatchApplyBegin?: { readonly call_id: string; readonly changes: readonly FileChange[] };
  readonly PatchApplyEnd?: {
    readonly call_id: string;
    readonly success: boolean;
    readonly changes: readonly FileChange[];
  };
  /**
   * A call to the provider failed and is made again, after this wait where the provider requested one; the turn goes
   * on.
   */
  readonly StreamError?: { readonly message: string; readonly attempt: number; readonly retry_in_ms?: number };
  /** The conversation was too long for the model; the call is repeated without its oldest messages. */
  readonly ContextTrimmed?: { readonly messages: number; readonly trimmed: number; readonly budget_tokens: number };
  readonly TaskComplete?: {
    readonly turn_id: string;
    readonly usage: Usage;
    /** Present when the answer was cut. */
    readonly finish_reason?: 'length' | 'content_filter' | 'other';
  };
  readonly TurnAborted?: { readonly turn_id: string; readonly reason: string };
  readonly Error?: { readonly turn_id: string; readonly reason: string; readonly message: string };
}

/** Params of a `conversation.event` notification. */
export interface TurnEvent {
  readonly session_id: string;
  readonly conversation_id: string;
  readonly turn_id: string;
  /** Grows within a turn, from 1. */
  readonly seq: number;
  readonly event: EventBody;
}

/** A JSON-RPC notification, as a stream brings it. */
export interface Notification {
  readonly method: string;
  readonly params: Readonly<Record<string, unknown>>;
}

/** Undefined for any other notification. */
export function toTurnEvent({ method, params }: Notification): TurnEvent | undefined {
  const { session_id, conversation_id, turn_id, seq, event } = params;
  if (
    method !== 'conversation.event' ||
    typeof session_id !== 'string' ||
    typeof conversation_id !== 'string' ||
    typeof turn_id !== 'string' ||
    typeof seq !== 'number' ||
    !isObject(event)
  ) {
    return undefined;
  }
  return { session_id, conversation_id, turn_id, seq, event };
}

/** Whether this event ends its turn; exactly one does. */
export function isTerminal({ event }: TurnEvent): boolean {
  return event.TaskComplete !== undefined || event.TurnAborted !== undefined || event.Error !== undefined;
}

export function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
