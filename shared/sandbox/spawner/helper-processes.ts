// Part of the program of the helper process (spawn-helper.ts): owns the running processes, passes their streams to the
// gateway and reports their end. It is used as source text, so it may use nothing from outside its body.
import type { Launch } from './helper-launcher.ts';
import type { SpawnReport, SpawnRequest } from './spawn-messages.ts';

type Handle = import('node:net').Socket | import('node:net').Server;
/** `onSent` is called when the gateway has received the handle, or when it can no longer receive it. */
export type SendReport = (report: SpawnReport, handle?: Handle, onSent?: () => void) => void;

export interface HelperProcesses {
  start(request: SpawnRequest): void;
  kill(id: number): void;
}

/** `passListener` is called for each process with a listener. */
export function helperProcesses(
  send: SendReport,
  launch: Launch,
  passListener: (id: number, child: import('node:child_process').ChildProcess) => void,
): HelperProcesses {
  const { Socket } = process.getBuiltinModule('node:net');
  type Child = ReturnType<Launch>;
  const running = new Map<number, Child>();

  /**
   * Passes the descriptor of a stream to the gateway, without reading from it. A process in a terminal has no stream.
   */
  const passStream = (id: number, pid: number, stream: 'stdin' | 'stdout' | 'stderr', socket: unknown): void => {
    send({ id, pid, stream }, socket instanceof Socket ? socket : undefined);
  };

  /**
   * Stops Node from reading the stream, which it does from the start, and again when the process ends. Bytes that are
   * read here would not reach the gateway.
   */
  const stopReading = (stream: Child['stdout']): void => {
    if (!stream || !('resume' in stream)) return;
    Reflect.get(stream, '_handle').readStop();
    stream.resume = () => stream;
  };

  /** Sends what the process writes to its status descriptor, then how it ended. */
  const report = (id: number, child: Child): void => {
    const status = child.stdio[3];
    // Whole lines are sent: bwrap writes a line in several pieces, and each message wakes up the gateway.
    let line = '';
    status?.on('error', () => {});
    status?.on('data', (bytes: Buffer) => {
      if (line.length < 4096) line += bytes.toString('latin1');
      if (!line.endsWith('\n')) return;
      send({ id, status: line });
      line = '';
    });
    const exited = Promise.withResolvers<SpawnReport>();
    child.once('exit', (code, signal) => {
      running.delete(id);
      exited.resolve({ id, exit: { code, signal } });
    });
    const statusEnd = new Promise((resolve) => status?.once('close', resolve));
    void Promise.all([exited.promise, statusEnd]).then(([exit]) => send(exit));
  };

  const start = (request: SpawnRequest): void => {
    const { id, hasStdin, tty, input, hasListener } = request;
    let child: Child;
    try {
      child = launch(request);
    } catch (error) {
      send({ id, error: error instanceof Error && 'code' in error ? String(error.code) : String(error) });
      return;
    }
    const [stdin, stdout, stderr, , inputPipe] = child.stdio;
    // A program that ends early does not read its input to the end.
    inputPipe?.on('error', () => {});
    if (inputPipe && 'end' in inputPipe) inputPipe.end(input);
    stopReading(stdout);
    stopReading(stderr);
    child.once('error', (error) => {
      running.delete(id);
      send({ id, error: 'code' in error ? String(error.code) : error.message });
    });
    const { pid } = child;
    if (pid === undefined) return;
    running.set(id, child);
    if (hasListener) passListener(id, child);
    passStream(id, pid, 'stdout', stdout);
    passStream(id, pid, 'stderr', stderr);
    if (hasStdin && tty === undefined) passStream(id, pid, 'stdin', stdin);
    report(id, child);
  };

  return { start, kill: (id) => running.get(id)?.kill('SIGKILL') };
}
