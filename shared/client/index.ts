// All that the package exports; the package's own entry, not a barrel for this repository.
export type { EventBody } from '../turn-events.ts';
export type { Notification, TurnEvent } from './events.ts';
export { CodexGatewayClient } from './gateway-client.ts';
export { type ErrorReason, GatewayError } from './gateway-error.ts';
export type { HistoryMessage, MessagesOptions } from './messages.ts';
export type { Methods } from './methods.ts';
export type { CallOptions, ClientOptions, JsonRpcResponse, MethodTable, StreamOptions } from './options.ts';
export type { StandardSchema } from './structured.ts';
export type { SocketConstructor, SocketLike } from './transport/connection.ts';
export type { TurnStream } from './turns/turn-stream.ts';
