// The options of the client and of a call, and the default timeouts.
import { METHODS } from '../protocol.ts';
import type { SocketConstructor } from './transport/connection.ts';
import type { Fetch } from './transport/http.ts';

/** A response with the types of the plain client in the API's description. */
export interface JsonRpcResponse {
  jsonrpc: '2.0';
  // biome-ignore lint/suspicious/noExplicitAny: the type in the API's description, whose members its callers read.
  result?: any;
  error?: { code: number; message: string; data?: Record<string, unknown> };
  /** Null when the request could not be read. */
  id: number | null;
}

export interface ClientOptions {
  /**
   * How prompts stream: Server-Sent Events (default), or WebSocket, which needs `socketUrl` where `/ws` is another
   * service.
   */
  readonly streaming?: 'sse' | 'websocket';
  /** Default: `/ws` below the gateway's URL. */
  readonly socketUrl?: string;
  /** Default: the platform's. Node 20 has none; pass the one of the package `ws`. */
  readonly WebSocket?: SocketConstructor;
  /** Default: the platform's. */
  readonly fetch?: Fetch;
  /** Retries of one call, and consecutive reconnections of a stream without a new event. Default 4. */
  readonly retries?: number;
}

export interface CallOptions {
  /** Ends the call; it rejects with the signal's reason. The turn continues on the gateway unless it is cancelled. */
  readonly signal?: AbortSignal;
  /**
   * Milliseconds for the call with its retries. Default: 1 minute; 11 minutes for methods that run a model or a
   * process.
   */
  readonly timeoutMs?: number;
  /** Default: the client's. */
  readonly retries?: number;
}

export interface StreamOptions extends CallOptions {
  /** An abort of `signal` also cancels the turn at the gateway. Default false. */
  readonly cancelOnAbort?: boolean;
}

/**
 * Methods by name. To add methods of your own: `new CodexGatewayClient<Methods & { 'hello.world': { params: ...;
 * result: ... } }>(...)`.
 */
export type MethodTable = Readonly<Record<string, { readonly params: object; readonly result: unknown }>>;

export const TIMEOUT_MS = 60_000;
/** Longer than a turn may take at the gateway. */
export const LONG_TIMEOUT_MS = 660_000;
const LONG: ReadonlySet<string> = new Set([
  METHODS.apply,
  METHODS.prompt,
  METHODS.resume,
  METHODS.exec,
  METHODS.mcpCall,
  METHODS.mcpConnect,
  METHODS.proto,
]);
/** Milliseconds for a call with its retries. */
export function timeoutOf(method: string, { timeoutMs }: CallOptions): number {
  return timeoutMs ?? (LONG.has(method) ? LONG_TIMEOUT_MS : TIMEOUT_MS);
}
