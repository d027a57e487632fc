// Names that the gateway and its clients share: paths, headers, WebSocket subprotocols and close codes, and the methods
// and notifications that clients handle by name. They are public and must not change.

/** Paths of the endpoints, below the URL of the gateway. */
export const PATHS = { health: '/health', jsonrpc: '/jsonrpc', webhook: '/webhook', socket: '/ws' } as const;

/** Host of `npm start` without configuration. */
export const LOCAL_HOST = '127.0.0.1';
export const LOCAL_PORT = 8080;
export const LOCAL_URL = `http://${LOCAL_HOST}:${LOCAL_PORT}`;
/** The key of `npm start` without configuration. It is public, so it is refused unless HOST is a loopback address. */
export const LOCAL_KEY = 'dev-key';

/** Header names as they are sent; Node lists received ones in lower case. */
export const HEADERS = {
  key: 'X-API-Key',
  requestId: 'X-Request-Id',
  idempotencyKey: 'Idempotency-Key',
  lastEventId: 'Last-Event-ID',
  retryAfter: 'Retry-After',
  rateLimit: 'X-RateLimit-Limit',
  rateRemaining: 'X-RateLimit-Remaining',
  /** Epoch seconds. */
  rateReset: 'X-RateLimit-Reset',
  overheadMs: 'X-Gateway-Overhead-Ms',
} as const;

export const EVENT_STREAM_TYPE = 'text/event-stream';

/** The subprotocol of the WebSocket, the only one that the gateway echoes. */
export const SUBPROTOCOL = 'gateway.v1';
/** A browser sends its ticket as a second subprotocol with this prefix. */
export const TICKET_PREFIX = 'gateway.ticket.';

/** The subprotocols that open a WebSocket with a ticket. */
export function ticketProtocols(ticket: string): string[] {
  return [SUBPROTOCOL, `${TICKET_PREFIX}${ticket}`];
}

/** Codes with which a WebSocket is closed (RFC 6455 and the IANA registry). */
export const CLOSE = {
  normal: 1000,
  abnormal: 1006,
  policy: 1008,
  internal: 1011,
  restart: 1012,
  tryLater: 1013,
} as const;

/** Methods that the clients of this repository handle by name. */
export const METHODS = {
  prompt: 'conversation.prompt',
  resume: 'conversation.resume',
  cancel: 'conversation.cancel',
  status: 'conversation.status',
  history: 'conversation.history',
  list: 'conversation.list',
  delete: 'conversation.delete',
  update: 'conversation.update',
  ownerErase: 'owner.erase',
  ownerExport: 'owner.export',
  subscribe: 'events.subscribe',
  unsubscribe: 'events.unsubscribe',
  events: 'events.list',
  deployments: 'deployment.list',
  terminalStart: 'interactive.start',
  terminalInput: 'interactive.input',
  terminalResize: 'interactive.resize',
  terminalClose: 'interactive.close',
  mcpConnect: 'mcp.connect',
  mcpCall: 'mcp.call',
  mcpList: 'mcp.list',
  exec: 'exec',
  apply: 'apply',
  proto: 'proto',
  limits: 'auth.limits',
  models: 'models.list',
  ticket: 'auth.ticket',
  discover: 'rpc.discover',
} as const;

/** Notifications that the gateway sends. */
export const NOTIFICATIONS = {
  turnEvent: 'conversation.event',
  webhookEvent: 'event',
  subscribed: 'events.subscribed',
  terminalOutput: 'interactive.output',
  terminalExit: 'interactive.exit',
  reconnect: 'gateway.reconnect',
} as const;
