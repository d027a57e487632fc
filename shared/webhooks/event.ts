// Webhook events, with the attribute names of CloudEvents 1.0, and the port of the event bus.

/** One accepted event. The caller's JSON is stored as text, because stores do not accept every JSON value. */
export interface GatewayEvent {
  /** Hash of the delivery id, else of the body; also CloudEvents `id`. */
  readonly id: string;
  /** Event name, e.g. `deployment.success`; CloudEvents `type`. */
  readonly type: string;
  /** CloudEvents `source`, e.g. `/webhook/default`. */
  readonly source: string;
  /** ISO 8601 time of the event; CloudEvents `time`. */
  readonly time: string;
  /** Time of arrival, epoch milliseconds; CloudEvents extension `recordedtime`. Orders events with the same `time`. */
  readonly recordedAtMs: number;
  /** The received body, JSON text. */
  readonly body: string;
  /** Pub/Sub ordering key: the service of the event, else the source. */
  readonly orderingKey: string;
}

/**
 * The EventBus port. `publish` resolves when the bus has stored the event. Delivery is at least once; subscribers
 * deduplicate by id.
 */
export interface EventBus {
  publish(event: GatewayEvent, options?: { readonly signal?: AbortSignal }): Promise<{ readonly messageId: string }>;
  ping(options?: { readonly signal?: AbortSignal }): Promise<void>;
  close(): Promise<void>;
}
