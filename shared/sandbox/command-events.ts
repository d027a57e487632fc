// Sends events about a command to the caller while it runs: `workspace.event` notifications with Codex's event names.
// On a WebSocket a short command sends its response only, so that a client which reads one message reads the response.

export type WorkspaceEvent =
  | {
      readonly ExecCommandBegin: {
        readonly call_id: string;
        readonly command: readonly string[];
        readonly cwd: string;
      };
    }
  | {
      readonly ExecCommandOutputDelta: {
        readonly call_id: string;
        readonly stream: 'stdout' | 'stderr';
        readonly chunk: string;
      };
    }
  | {
      readonly ExecCommandEnd: {
        readonly call_id: string;
        readonly exit_code: number;
        readonly timed_out: boolean;
        readonly duration_ms: number;
      };
    };

export interface EventSink {
  /** Resolves when the caller can receive more. */
  send(event: WorkspaceEvent): void | Promise<void>;
  /** Drops the events that are still delayed: the response contains all of it. */
  end(): void;
}

export interface SinkOptions {
  readonly callId: string;
  readonly sessionId: string | undefined;
  /** How long events wait for the command to end; 0: not at all. */
  readonly holdMs: number;
}

/** Sends one notification. */
export type Notify = (method: string, params: object, eventId: string) => void | Promise<void>;

/** `notify` undefined: the transport cannot stream, nothing is sent. */
export function createEventSink(notify: Notify | undefined, options: SinkOptions): EventSink {
  if (notify === undefined) return { send() {}, end() {} };
  const emit = notify;
  const delayed: WorkspaceEvent[] = [];
  let seq = 0;
  let isHolding = options.holdMs > 0;
  const timer = isHolding ? setTimeout(flush, options.holdMs) : undefined;
  return {
    send(event) {
      // The delayed events are bounded by the output that is kept.
      if (isHolding) delayed.push(event);
      else return notifyEvent(event);
    },
    end: () => clearTimeout(timer),
  };

  function flush(): void {
    isHolding = false;
    for (const event of delayed.splice(0)) void notifyEvent(event);
  }

  function notifyEvent(event: WorkspaceEvent): void | Promise<void> {
    const { callId, sessionId } = options;
    seq++;
    const params = { ...(sessionId !== undefined && { session_id: sessionId }), call_id: callId, seq, event };
    return emit('workspace.event', params, `${callId}:${seq}`);
  }
}
