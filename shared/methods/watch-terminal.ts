// The way of a terminal's output to a connection: from the first of its calls that names the terminal on.
import type { Terminal } from '../terminals/terminal.ts';
import type { Connection, MethodContext } from './define-method.ts';

/**
 * For calls that use a terminal: whoever types or resizes on a socket sees the terminal, from the beginning, without a
 * start there.
 */
export function watchUnlessWatched({ connection, notify }: MethodContext, terminal: Terminal, sessionId: string): void {
  if (connection === undefined || connection.streams.has(streamOf(sessionId))) return;
  watchTerminal(connection, terminal, sessionId, 0, notify);
}

/**
 * Says ahead that a start will watch the terminal, so that input on its heels begins no watch of its own. The returned
 * function takes it back.
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
 * From the response on, the connection hears the terminal; a second call on the same connection takes the place of the
 * first.
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
          notify('interactive.output', { session_id: sessionId, seq, data, ...(missed && { missed }) }),
        exit(exitCode) {
          if (streams.get(id) === stop) streams.delete(id);
          return notify('interactive.exit', { session_id: sessionId, exit_code: exitCode });
        },
      },
      afterSeq,
    );
  });
}

function streamOf(sessionId: string): string {
  return `tty_${sessionId}`;
}
