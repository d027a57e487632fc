// All that the package exports; the package's own entry, not a barrel for this repository.
export type { EventBody } from '../turn-events.ts';
export type { Notification, TurnEvent } from './events.ts';
export {
  type CallOptions,
  type ClientOptions,
  CodexGatewayClient,
  type JsonRpcResponse,
  type MethodTable,
  type StreamOptions,
} from './gateway-client.ts';
export { type ErrorReason, GatewayError } from './gateway-error.ts';
export type { Methods } from './methods.ts';
export type { SocketConstructor, SocketLike } from './socket.ts';
export type { TurnStream } from './turn-stream.ts';
