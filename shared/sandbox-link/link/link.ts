// One session between the gateway side (a companion, or the local gateway) and the sandbox side, over successive
// WebSockets: requests in both directions, streams of bytes with credit, nothing lost or repeated when a WebSocket is
// cut. Only the types: connect-link.ts opens a link, link-server.ts accepts links.
import type { Duplex } from 'node:stream';
import type { Logger } from '../../log.ts';

/** Where the sandbox service accepts links, below its URL. */
export const LINK_PATH = '/link';

/** Most bytes of a control message, with its envelope. */
export const CONTROL_BYTES_MAX = 64 << 10;
/** Requests that one side may have in flight. More are answered `unavailable` at once and are not run. */
export const REQUESTS_MAX = 1_024;
/** Streams that one side may have opened at a time. */
export const STREAMS_MAX = 2_048;
/** Bytes of a stream that were sent and that the reader has not consumed. */
export const STREAM_CREDIT_BYTES = 256 << 10;
/** The same for all streams of one direction. */
export const LINK_CREDIT_BYTES = 32 << 20;

export interface Link {
  /** The same on both sides; safe to log. */
  readonly id: string;
  /** Whether a WebSocket carries the link now; else it waits to be resumed. */
  readonly connected: boolean;
  /** How long nothing of the other side has arrived; when the link is over, what it was at its end. */
  readonly silentMs: number;
  /** How long no request and no stream, of either side, has been there. */
  readonly idleMs: number;
  /**
   * Aborted when the link is over for good (not at a cut that is resumed); the reason is an RpcError `unavailable`.
   * Before it is aborted, each request in flight has been rejected and each stream destroyed with that error.
   */
  readonly over: AbortSignal;
  /**
   * Sends a request and resolves with the result, which the caller checks by schema. Rejects with the RpcError of the
   * other side (reason, message, data, retryAfterMs); with `unavailable` when the link is over (the request may have
   * been carried out) or REQUESTS_MAX are in flight (it was not sent); with `payload_too_large` when params, or the
   * result, do not fit into a control message; with the reason of the signal when it aborts, and then the signal of the
   * handler aborts too. No time limit of its own: a link that is cut for good is over after `overMs`.
   */
  request(method: string, params: unknown, signal?: AbortSignal): Promise<unknown>;
  /**
   * Sends a message without an answer, in order with requests. A link that is over drops it. Throws
   * `payload_too_large`.
   */
  notify(method: string, params: unknown): void;
  /**
   * A new stream of this side; its id goes into a control message, with which the other side takes it. The caller
   * destroys it when that message fails: the other side cannot. Throws `unavailable` beyond STREAMS_MAX, or when the
   * link is over.
   */
  openStream(): LinkStream;
  /** Throws RpcError `invalid_params` for an id that the other side has not opened, has reset, or that was taken. */
  takeStream(id: number): LinkStream;
  /** Ends the link for both sides; what is in flight fails with `unavailable`. Resolves when the WebSocket is shut. */
  close(reason?: string): Promise<void>;
}

/**
 * A Node Duplex, half-closable. Writes obey the credit: their callbacks wait while the reader does not read. Reads give
 * credit back as they are consumed. `end()` ends one direction, after what was written; both ends close it. `destroy()`
 * drops what is not sent or read and resets it on the other side, where it is destroyed with RpcError `cancelled`. An
 * error has a listener from the start, so that one without a reader does not end the process.
 */
export interface LinkStream extends Duplex {
  readonly id: number;
}

export interface HandlerContext {
  readonly link: Link;
  /** Aborted when the caller cancels (reason: RpcError `cancelled`) or the link is over (`unavailable`). */
  readonly signal: AbortSignal;
}

/**
 * What answers the other side, by method; requests and notifications alike. `params` are whatever was sent: the handler
 * checks them by schema. An RpcError crosses the link with its reason, message, data and retryAfterMs; any other error
 * is logged and masked as `internal`; a method that is not here is `method_not_found`.
 */
export type Handlers = Readonly<Record<string, (params: unknown, context: HandlerContext) => Promise<unknown>>>;

/** All optional: tests use milliseconds. */
export interface LinkTimes {
  /** A side that sent nothing for so long sends its acknowledgement. Default 5 s. */
  readonly pingMs: number;
  /** Silence after which a WebSocket counts as cut. Default 15 s. */
  readonly silenceMs: number;
  /** Silence after which the link is over. Default 35 s. */
  readonly overMs: number;
  /** How often both are checked. Default 1 s. */
  readonly tickMs: number;
  /** Most time of one handshake, with the first messages of both sides. Default 5 s. */
  readonly handshakeMs: number;
}

/** What both ends need. */
export interface LinkDeps {
  readonly handlers: Handlers;
  readonly log: Logger;
  readonly times?: Partial<LinkTimes>;
}

/** The versions of the link's protocol that a side speaks, both inclusive. */
export interface ProtocolRange {
  readonly min: number;
  readonly max: number;
}

/** What the sandbox says of itself in its first message. */
export interface SandboxFacts {
  /** Random, new at each start of the service. */
  readonly bootId: string;
  /** Epoch milliseconds, by the sandbox's clock. */
  readonly startedAtMs: number;
  /** Version of the Codex binary there; undefined: none. */
  readonly codexVersion?: string;
}

/** The same, as the gateway side has received it. */
export interface ReachedSandbox extends SandboxFacts {
  readonly protocol: ProtocolRange;
}
