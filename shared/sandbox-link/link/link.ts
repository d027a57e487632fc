// The types of a link: a session between the gateway side (a companion, or the local gateway) and the sandbox side over
// successive WebSockets. It carries requests in both directions and byte streams with flow control by credit. No
// message is lost or repeated when a WebSocket is lost. connect-link.ts opens a link, link-server.ts accepts links.
import type { Duplex } from 'node:stream';
import type { Logger } from '../../log.ts';

/** Path at which the sandbox service accepts links. */
export const LINK_PATH = '/link';

/** Maximum size of a control message, with its envelope. */
export const CONTROL_BYTES_MAX = 64 << 10;
/**
 * Maximum number of requests in flight of one side. Further ones fail with `unavailable` immediately and do not run.
 */
export const REQUESTS_MAX = 1_024;
/** Maximum number of open streams of one side. */
export const STREAMS_MAX = 2_048;
/** Maximum bytes of a stream that were sent and that the reader has not consumed. */
export const STREAM_CREDIT_BYTES = 256 << 10;
/** The same limit for all streams of one direction together. */
export const LINK_CREDIT_BYTES = 32 << 20;

export interface Link {
  /** The id of the link, the same on both sides; safe to log. */
  readonly id: string;
  /** Whether the link has a WebSocket; if not, it waits to be resumed. */
  readonly connected: boolean;
  /** How long nothing was received from the other side; when the link is over, the value at its end. */
  readonly silentMs: number;
  /** How long no request and no stream, of either side, has been there. */
  readonly idleMs: number;
  /**
   * Aborts when the link is finally over (not when a lost connection is resumed). The reason is an RpcError
   * `unavailable`. Before that, each request in flight is rejected and each stream destroyed with that error.
   */
  readonly over: AbortSignal;
  /**
   * Sends a request and resolves with the result, which the caller validates. Rejects with the RpcError of the other
   * side (reason, message, data, retryAfterMs); with `unavailable` if the link is over (the request may have been
   * executed) or REQUESTS_MAX are in flight (it was not sent); with `payload_too_large` if the params or the result do
   * not fit into a control message; with the reason of the signal when it aborts, and then the signal of the handler
   * aborts, too. It has no deadline, but a link whose connection is lost is over after `overMs`.
   */
  request(method: string, params: unknown, signal?: AbortSignal): Promise<unknown>;
  /**
   * Sends a message without a response, in order with requests. A link that is over drops it. Throws
   * `payload_too_large`.
   */
  notify(method: string, params: unknown): void;
  /**
   * Opens a stream. The caller sends its id in a control message, and the other side takes it by that id. If that
   * message fails, the caller must destroy the stream, because the other side does not have it. Throws `unavailable` if
   * there are STREAMS_MAX, or the link is over.
   */
  openStream(): LinkStream;
  /**
   * Returns a stream that the other side has opened. Throws RpcError `invalid_params` for an id that the other side has
   * not opened or has reset, or that was already taken.
   */
  takeStream(id: number): LinkStream;
  /**
   * Ends the link for both sides; requests in flight fail with `unavailable`. Resolves when the WebSocket is closed.
   */
  close(reason?: string): Promise<void>;
}

/**
 * A Duplex of Node whose directions end separately. Callbacks of writes wait while there is no credit, because the
 * reader does not read. Consumed reads give credit back. `end()` ends one direction after the written bytes; when both
 * have ended, the stream closes. `destroy()` drops bytes that were not sent or read, and resets the stream on the other
 * side, where it is destroyed with RpcError `cancelled`. The stream has a listener of `error` from the start, so that
 * an error without another listener does not end the process.
 */
export interface LinkStream extends Duplex {
  readonly id: number;
}

export interface HandlerContext {
  readonly link: Link;
  /** Aborts when the caller cancels (reason: RpcError `cancelled`) or the link is over (`unavailable`). */
  readonly signal: AbortSignal;
}

/**
 * Handlers of requests and notifications of the other side, by method. The handler must validate `params`. An RpcError
 * is sent to the other side with its reason, message, data and retryAfterMs; any other error is logged and sent as
 * `internal`. An unknown method is `method_not_found`.
 */
export type Handlers = Readonly<Record<string, (params: unknown, context: HandlerContext) => Promise<unknown>>>;

/** Time limits of a link. Tests use shorter ones. */
export interface LinkTimes {
  /** A side that has sent nothing for this long sends an acknowledgement. Default 5 s. */
  readonly pingMs: number;
  /** After this time without a message, a WebSocket counts as lost. Default 15 s. */
  readonly silenceMs: number;
  /** After this time without a message, the link is over. Default 35 s. */
  readonly overMs: number;
  /** Interval at which both are checked. Default 1 s. */
  readonly tickMs: number;
  /** Deadline of a handshake, with the first messages of both sides. Default 5 s. */
  readonly handshakeMs: number;
}

/** The dependencies of both ends. */
export interface LinkDeps {
  readonly handlers: Handlers;
  readonly log: Logger;
  readonly times?: Partial<LinkTimes>;
}

/** The protocol versions that a side supports, inclusive. */
export interface ProtocolRange {
  readonly min: number;
  readonly max: number;
}

/** Facts about the sandbox service from its first message. */
export interface SandboxFacts {
  /** Random, new at each start of the service. */
  readonly bootId: string;
  /** Start of the service: epoch milliseconds by the clock of the sandbox. */
  readonly startedAtMs: number;
  /** Version of the installed Codex; undefined: not installed. */
  readonly codexVersion?: string;
}

/** The same, as the gateway side has received it. */
export interface ReachedSandbox extends SandboxFacts {
  readonly protocol: ProtocolRange;
}
