// Why the gateway ends a WebSocket.

/** Close codes of RFC 6455 and the IANA registry. */
export const CLOSE = { policy: 1008, internal: 1011, restart: 1012, tryLater: 1013 } as const;
