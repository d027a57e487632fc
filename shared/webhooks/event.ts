// Webhook events and the bus that carries them: CloudEvents 1.0 by name.

/** One accepted event. `data` is the caller's JSON, kept as text so that any shape survives any store. */
export interface GatewayEvent {
  /** Hash of the delivery id, else of the body; also CloudEvents `id`. */
  readonly id: string;
  /** Event name, e.g. `deployment.success`; CloudEvents `type`. */
  readonly type: string;
  /** CloudEvents `source`, e.g. `/webhook/default`. */
  readonly source: string;
  /** ISO 8601 time of the event; CloudEvents `time`. */
  readonly time: string;
  /** When it arrived, epoch ms; CloudEvents extension `recordedtime`. Orders events that claim the same time. */
  readonly recordedAtMs: number;
  /** The whole body as received, JSON text. */
  readonly body: string;
  /** Pub/Sub ordering key: the service the event is about, else the source. */
  readonly orderingKey: string;
}

/**
 * The EventBus port. Resolves once the bus has taken the event for good; at least once is allowed, subscribers dedupe
 * by id.
 */
export interface EventBus {
  publish(event: GatewayEvent, options?: { readonly signal?: AbortSignal }): Promise<{ readonly messageId: string }>;
  ping(options?: { readonly signal?: AbortSignal }): Promise<void>;
  close(): Promise<void>;
}
