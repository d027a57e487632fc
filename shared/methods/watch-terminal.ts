// Sends the output of a terminal to a connection after its first call with the session id of the terminal.
import { NOTIFICATIONS } from '../protocol.ts';
import type { Terminal } from '../terminals/terminal.ts';
import type { Connection, MethodContext } from './define-method.ts';

/**
 * Subscribes a connection to the output of a terminal, from its beginning, unless it already is. For input and resize
 * on a WebSocket without an interactive.start on the same connection.
 */
export function watchUnlessWatched({ connection, notify }: MethodContext, terminal: Terminal, sessionId: string): void {
  if (connection === undefined || connection.streams.has(streamOf(sessionId))) return;
  watchTerminal(connection, terminal, sessionId, 0, notify);
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
  terminal: Terminal,
  sessionId: string,
  afterSeq: number,
  notify: MethodContext['notify'],
): void {
  const id = streamOf(sessionId);
  let isOver = false;
  let leave: (() => void) | undefined;
  const stop = (): void => {
    isOver = true;
    leave?.();
  };
  streams.get(id)?.();
  streams.set(id, stop);
  afterReply(() => {
    if (isOver) return;
    leave = terminal.watch(
      {
        output: ({ seq, data, missed }) =>
          notify(NOTIFICATIONS.terminalOutput, { session_id: sessionId, seq, data, ...(missed && { missed }) }),
        exit(exitCode) {
          if (streams.get(id) === stop) streams.delete(id);
          return notify(NOTIFICATIONS.terminalExit, { session_id: sessionId, exit_code: exitCode });
        },
      },
      afterSeq,
    );
  });
}

function streamOf(sessionId: string): string {
  return `tty_${sessionId}`;
}
