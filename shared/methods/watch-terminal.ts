// Sends the output of a terminal to a connection after its first call with the session id of the terminal.
import { NOTIFICATIONS } from '../protocol.ts';
import type { Watcher } from '../terminals/terminals.ts';
import type { Connection, MethodContext } from './define-method.ts';

export interface WatchContext extends Pick<MethodContext, 'connection' | 'notify'> {
  readonly services: Pick<MethodContext['services'], 'terminals'>;
  readonly caller: Pick<MethodContext['caller'], 'keyId'>;
}

/**
 * Subscribes a connection to the output of a terminal, from its beginning, unless it already is. For input and resize
 * on a WebSocket without an interactive.start on the same connection.
 */
export function watchUnlessWatched(context: WatchContext, sessionId: string): void {
  const { connection } = context;
  if (connection === undefined || connection.streams.has(streamOf(sessionId))) return;
  watchTerminal(connection, context, sessionId, 0);
}

/**
 * Records that a running interactive.start will watch the terminal, so that input which arrives meanwhile does not
 * start a second watch. The returned function removes the record.
 */
export function expectWatch({ streams }: Connection, sessionId: string): () => void {
  const id = streamOf(sessionId);
  if (streams.has(id)) return () => {};
  const expected = (): void => {};
  streams.set(id, expected);
  return () => {
    if (streams.get(id) === expected) streams.delete(id);
  };
}

/**
 * From the response on, the connection receives the output of the terminal; a second call on the same connection
 * replaces the first.
 */
export function watchTerminal(
  { streams, afterReply }: Connection,
  { services, caller, notify }: WatchContext,
  sessionId: string,
  afterSeq: number,
): void {
  const id = streamOf(sessionId);
  const handle = { owner: caller.keyId, sessionId };
  let isOver = false;
  let leave: (() => void) | undefined;
  const stop = (): void => {
    isOver = true;
    leave?.();
  };
  const forget = (): void => {
    if (streams.get(id) === stop) streams.delete(id);
  };
  const watcher: Watcher = {
    output: ({ seq, data, missed }) =>
      notify(NOTIFICATIONS.terminalOutput, { session_id: sessionId, seq, data, ...(missed && { missed }) }),
    exit(exitCode) {
      forget();
      return notify(NOTIFICATIONS.terminalExit, { session_id: sessionId, exit_code: exitCode });
    },
  };
  streams.get(id)?.();
  streams.set(id, stop);
  afterReply(() => {
    if (isOver) return;
    // A terminal that cannot be watched any more is reported by the next call that uses it.
    services.terminals.watch(handle, watcher, afterSeq).then((stopWatching) => {
      leave = stopWatching;
      if (isOver) leave();
    }, forget);
  });
}

function streamOf(sessionId: string): string {
  return `tty_${sessionId}`;
}
