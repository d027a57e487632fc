// MCP's stdio transport over a server's process: one JSON-RPC message per line
// (https://modelcontextprotocol.io/specification). The transport of the SDK is not used, because it would start the
// process outside the sandbox. Ends a server that sends a line over 4 MiB or does not read its input.
import {
  deserializeMessage,
  type JSONRPCMessage,
  serializeMessage,
  type Transport,
} from '@modelcontextprotocol/client';
import { markNumbers } from '../../../rpc/json/exact-json.ts';
import type { ServerProcess } from '../../stdio-servers.ts';
import { FRAME_BYTES_MAX, isTooHeavy, TOO_HEAVY, TOO_LARGE } from './message-bounds.ts';
import { createPacedLines, type TimeShare } from './paced-lines.ts';

export interface StdioTransport extends Transport {
  /**
   * By `pid` and `stderr` the SDK recognizes a stdio transport. On such a transport, it takes a missing answer to
   * `server/discover` as a sign of the older era.
   */
  readonly pid: null;
  readonly stderr: null;
  /** Returns the end of what the server wrote to stderr. */
  stderrTail(): string;
  /** Undefined while it runs. */
  exitCode(): number | undefined;
  /** Why the gateway closed the connection, or why the connection to the sandbox ended. */
  failure(): Error | undefined;
}

const STDERR_BYTES_KEPT = 4096;
/** Maximum bytes of input that the server may leave unread. */
const UNREAD_BYTES_MAX = 8 << 20;

export function createStdioTransport(server: ServerProcess, share: TimeShare): StdioTransport {
  const stderrTail = keepTail(server);
  let exitCode: number | undefined;
  let failure: Error | undefined;
  let isStarted = false;
  let isClosed = false;

  const fail = (error: Error): void => {
    failure ??= error;
    transport.onerror?.(error);
    void close();
  };

  const lines = createPacedLines(server.stdout, {
    lineBytesMax: FRAME_BYTES_MAX,
    share,
    onLine(line) {
      const text = line.toString('utf8');
      if (isTooHeavy(text)) return fail(new Error(TOO_HEAVY));
      const message = toMessage(text);
      // Some servers print other text to stdout by mistake, so the connection stays open.
      if (message instanceof Error) transport.onerror?.(message);
      else transport.onmessage?.(message);
    },
    onTooLong: (cause) => fail(new Error(TOO_LARGE, { cause })),
    onEnd: () => void close(),
  });

  async function close(): Promise<void> {
    if (isClosed) return;
    isClosed = true;
    lines.stop();
    server.stdin.end();
    await server.kill();
    transport.onclose?.();
  }

  void server.exited.then((ended) => {
    exitCode = ended.exitCode;
    failure ??= ended.failure;
    lines.end();
  });

  const transport: StdioTransport = {
    pid: null,
    stderr: null,
    async start() {
      if (isStarted) throw new Error('the transport is started already');
      isStarted = true;
      lines.start();
    },
    async send(message) {
      if (isClosed) throw new Error('the server has ended');
      if (server.stdin.writableLength > UNREAD_BYTES_MAX) {
        const error = new Error('it does not read its input');
        fail(error);
        throw error;
      }
      server.stdin.write(serializeMessage(message));
    },
    close,
    stderrTail,
    exitCode: () => exitCode,
    failure: () => failure,
  };
  return transport;
}

function toMessage(text: string): JSONRPCMessage | Error {
  try {
    return deserializeMessage(markNumbers(text));
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
}

/** Reads stderr; the returned function returns the end of it. */
function keepTail({ stderr }: ServerProcess): () => string {
  let tail = Buffer.alloc(0);
  stderr.on('error', () => {});
  stderr.on('data', (chunk: Buffer) => {
    tail = Buffer.concat([tail, chunk]).subarray(-STDERR_BYTES_KEPT);
  });
  return () => tail.toString('utf8').replaceAll('\ufffd', '');
}
