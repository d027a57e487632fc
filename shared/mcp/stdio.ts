// MCP's stdio transport over a child of the sandbox: one JSON-RPC message per line
// (https://modelcontextprotocol.io/specification). The SDK's own transport would start the process outside the sandbox.
// Ends a server that sends a line over 4 MiB or leaves its input unread. The messages of a server that floods are read
// in slices, within the share of the event loop's time that its owner has.
import {
  deserializeMessage,
  type JSONRPCMessage,
  serializeMessage,
  type Transport,
} from '@modelcontextprotocol/client';
import { markNumbers } from '../rpc/exact-json.ts';
import { inspectJson } from '../rpc/json-numbers.ts';
import type { SandboxChild } from '../sandbox/sandbox.ts';
import { createLineReader } from './lines.ts';

export interface StdioTransport extends Transport {
  /** The SDK recognizes a stdio transport by `pid` and `stderr`; there, no answer means a server of the older era. */
  readonly pid: number;
  readonly stderr: null;
  /** The end of what the server wrote to stderr. */
  stderrTail(): string;
  /** Undefined while it runs. */
  exitCode(): number | undefined;
  /** Why the gateway closed the connection. */
  failure(): Error | undefined;
}

export const FRAME_BYTES_MAX = 4 << 20;
/** A message whose value takes more memory would stop the event loop for as long as it takes to make. */
const VALUE_BYTES_MAX = 64 << 20;
export const TOO_HEAVY = `a message takes more than ${VALUE_BYTES_MAX >> 20} MiB of memory`;
/** Smaller messages cannot. */
const VALUE_CHECKED_BYTES = 1 << 20;
const STDERR_BYTES_KEPT = 4096;
/** Bytes the server may leave unread. */
const UNREAD_BYTES_MAX = 8 << 20;
/** Messages are read for this long at once. */
const SLICE_MS = 10;

/** Of the event loop's time, the part that messages of one owner's servers may take. */
export interface TimeShare {
  spend(tookMs: number): void;
  /** Until the next message may be read. */
  waitMs(): number;
}

export function createStdioTransport(child: SandboxChild, share: TimeShare): StdioTransport {
  const lines = createLineReader(FRAME_BYTES_MAX);
  let tail = Buffer.alloc(0);
  let exitCode: number | undefined;
  let failure: Error | undefined;
  let isStarted = false;
  let isClosed = false;
  let isEnded = false;
  /** Bytes that wait for the next slice; while there are any, or there is a timer, reading is paused. */
  let rest: Buffer = Buffer.alloc(0);
  let sliceTimer: NodeJS.Timeout | undefined;

  const fail = (error: Error): void => {
    failure ??= error;
    transport.onerror?.(error);
    void close();
  };

  const onLine = (line: Buffer): void => {
    if (isClosed || line.length === 0) return;
    const text = line.toString('utf8');
    if (isTooHeavy(text)) {
      fail(new Error(TOO_HEAVY));
      return;
    }
    let message: JSONRPCMessage;
    try {
      message = deserializeMessage(markNumbers(text));
    } catch (error) {
      // Servers do print to stdout by mistake; the connection stays open.
      transport.onerror?.(error instanceof Error ? error : new Error(String(error)));
      return;
    }
    transport.onmessage?.(message);
  };

  const onData = (chunk: Buffer): void => {
    rest = rest.length === 0 ? chunk : Buffer.concat([rest, chunk]);
    if (sliceTimer === undefined) readSlice();
  };

  const readSlice = (): void => {
    const startedMs = performance.now();
    try {
      const takenBytes = lines.push(rest, (line) => {
        onLine(line);
        return performance.now() - startedMs > SLICE_MS ? 'stop' : undefined;
      });
      rest = rest.subarray(takenBytes);
    } catch (error) {
      const message = `a message is larger than ${FRAME_BYTES_MAX >> 20} MiB, the most that the gateway takes`;
      fail(new Error(message, { cause: error }));
    }
    // The protocol's handlers run in microtasks that were queued before this one.
    queueMicrotask(() => {
      share.spend(performance.now() - startedMs);
      next();
    });
  };

  const next = (): void => {
    sliceTimer = undefined;
    if (isClosed) return;
    const waitMs = share.waitMs();
    if (waitMs > 0 || rest.length > 0) {
      child.stdout.pause();
      sliceTimer = setTimeout(rest.length > 0 && waitMs === 0 ? readSlice : next, waitMs);
    } else if (isEnded) void close();
    else child.stdout.resume();
  };

  async function close(): Promise<void> {
    if (isClosed) return;
    isClosed = true;
    clearTimeout(sliceTimer);
    rest = Buffer.alloc(0);
    child.stdout.off('data', onData);
    child.stdin.end();
    await child.kill();
    transport.onclose?.();
  }

  child.stderr.on('error', () => {});
  child.stderr.on('data', (chunk: Buffer) => {
    tail = Buffer.concat([tail, chunk]).subarray(-STDERR_BYTES_KEPT);
  });
  void child.exited.then((ended) => {
    exitCode = ended.exitCode;
    isEnded = true;
    if (sliceTimer === undefined) next();
  });

  const transport: StdioTransport = {
    pid: child.pid,
    stderr: null,
    async start() {
      if (isStarted) throw new Error('the transport is started already');
      isStarted = true;
      child.stdout.on('error', () => {});
      child.stdout.on('data', onData);
    },
    async send(message) {
      if (isClosed) throw new Error('the server has ended');
      if (child.stdin.writableLength > UNREAD_BYTES_MAX) {
        const error = new Error('it does not read its input');
        fail(error);
        throw error;
      }
      child.stdin.write(serializeMessage(message));
    },
    close,
    stderrTail: () => tail.toString('utf8').replaceAll('\ufffd', ''),
    exitCode: () => exitCode,
    failure: () => failure,
  };
  return transport;
}

export function isTooHeavy(text: string): boolean {
  return text.length > VALUE_CHECKED_BYTES && inspectJson(text).heapBytes > VALUE_BYTES_MAX;
}
