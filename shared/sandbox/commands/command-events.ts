// Sends events about a running command to the caller: `workspace.event` notifications with Codex's event names. On a
// WebSocket, the events of a short command are not sent, so that the first message that a client receives is the
// response.

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
  /** Drops the events that are still delayed: the response contains the whole output. */
  end(): void;
}

export interface SinkOptions {
  readonly callId: string;
  readonly sessionId: string | undefined;
  /** Delay of the first events: they are dropped if the command ends before. 0: no delay. */
  readonly delayMs: number;
}

/** Sends one notification. */
export type Notify = (method: string, params: object, eventId: string) => void | Promise<void>;

/** `notify` is undefined on a transport without streaming: nothing is sent then. */
export function createEventSink(notify: Notify | undefined, options: SinkOptions): EventSink {
  if (notify === undefined) return { send() {}, end() {} };
  const emit = notify;
  const delayed: WorkspaceEvent[] = [];
  let seq = 0;
  let isDelaying = options.delayMs > 0;
  const timer = isDelaying ? setTimeout(flush, options.delayMs) : undefined;
  return {
    send(event) {
      // Their number is bounded, because the kept output is.
      if (isDelaying) delayed.push(event);
      else return notifyEvent(event);
    },
    end: () => clearTimeout(timer),
  };

  function flush(): void {
    isDelaying = false;
    for (const event of delayed.splice(0)) void notifyEvent(event);
  }

  function notifyEvent(event: WorkspaceEvent): void | Promise<void> {
    const { callId, sessionId } = options;
    seq++;
    const params = { ...(sessionId !== undefined && { session_id: sessionId }), call_id: callId, seq, event };
    return emit('workspace.event', params, `${callId}:${seq}`);
  }
}
