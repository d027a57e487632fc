// Connects the standard streams of a process to streams of a link.
import type { Readable, Writable } from 'node:stream';
import type { LinkStream } from '../link/link.ts';

export interface JoinedProcess {
  readonly stdin: Writable;
  readonly stdout: Readable;
  readonly stderr: Readable;
  /** Resolves when its processes have ended. */
  readonly exited: Promise<unknown>;
}

/**
 * `io` carries stdin and stdout. `end` is called when `io` is reset before the process has ended, for example because
 * the link is over.
 */
export function joinStreams(running: JoinedProcess, io: LinkStream, errors: LinkStream, end: () => void): void {
  const { stdin, stdout, stderr, exited } = running;
  // A process may close its input; that is not an error of the service.
  stdin.on('error', () => {});
  io.pipe(stdin);
  stdout.pipe(io);
  stderr.pipe(errors);
  errors.resume();
  io.once('close', end);
  void exited.then(() => {
    io.off('close', end);
    // Remaining input is dropped, so that the stream ends when the gateway side has ended it.
    io.resume();
  });
}
