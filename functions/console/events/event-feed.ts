// Reads events without a gap: the recorded ones, then the live ones from there, over every reconnection. Without a
// WebSocket the recorded ones are read again every few seconds.
import type { Notification } from '../../../shared/client/events.ts';
import type { GatewayError } from '../../../shared/client/gateway-error.ts';
import { METHODS, NOTIFICATIONS } from '../../../shared/protocol.ts';
import type { Client } from '../gateway/client.ts';
import { toFailure } from '../gateway/failure.ts';
import {
  Anything,
  type DeploymentRow,
  Deployments,
  type EventRow,
  Events,
  LiveEvent,
  Subscribed,
} from '../gateway/results.ts';
import { createValue, type Value } from '../view.ts';

export interface FeedState {
  readonly phase: 'loading' | 'live' | 'polling';
  readonly events: readonly EventRow[];
  /** Ids of events that were received while the page was open. */
  readonly fresh: ReadonlySet<string>;
  readonly deployments: readonly DeploymentRow[];
  readonly failure?: GatewayError | undefined;
}

const EVENTS_MAX = 200;
const PAGE = 50;
const POLL_MS = 15_000;
/** Deployments are applied by a subscriber, soon after the event itself. */
const REFRESH_MS = 700;

export class EventFeed {
  readonly state: Value<FeedState> = createValue<FeedState>({
    phase: 'loading',
    events: [],
    fresh: new Set(),
    deployments: [],
  });
  readonly #client: Client;
  readonly #left = new AbortController();
  readonly #unwatch: readonly (() => void)[];
  #cursor: string | undefined;
  #subscription: string | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #isStarting = false;

  constructor(client: Client) {
    this.#client = client;
    this.#unwatch = [
      client.listen((notification) => this.#receive(notification)),
      client.link.subscribe(() => void this.start()),
    ];
    void this.start();
  }

  /** Subscribes first and reads what is recorded after that, so that no event is missed. */
  async start(): Promise<void> {
    if (this.#isStarting || this.#left.signal.aborted) return;
    const link = this.#client.link.current;
    if (link !== 'open' && link !== 'absent') return this.#change({ phase: 'loading' });
    this.#isStarting = true;
    try {
      this.#change({ failure: undefined });
      if (link === 'open') await this.#subscribe();
      await this.#look();
      this.#change({ phase: link === 'open' ? 'live' : 'polling' });
    } catch (error) {
      // After a cut the next connection starts again.
      if (this.#client.link.current === link) this.#change({ failure: toFailure(error) });
    }
    this.#isStarting = false;
    if (this.#client.link.current === 'absent' && !this.#left.signal.aborted)
      this.#schedule(POLL_MS, () => this.start());
  }

  /** Reads again in a moment what an event has changed. */
  refreshSoon(): void {
    const isPolling = this.#client.link.current === 'absent';
    this.#schedule(REFRESH_MS, () => (isPolling ? this.#look() : this.#refresh()));
  }

  close(): void {
    this.#left.abort();
    clearTimeout(this.#timer);
    for (const stop of this.#unwatch) stop();
    const params = { subscription_id: this.#subscription };
    if (this.#subscription === undefined || this.#client.link.current !== 'open') return;
    this.#client.attached(Anything, METHODS.unsubscribe, params).catch(() => {});
  }

  #receive({ method, params }: Notification): void {
    const live = method === NOTIFICATIONS.webhookEvent ? LiveEvent.safeParse(params) : undefined;
    if (!live?.success || live.data.subscription_id !== this.#subscription) return;
    const { subscription_id: _, cursor, ...event } = live.data;
    this.#cursor = cursor;
    this.#add([event]);
    if (event.event.startsWith('deployment')) this.refreshSoon();
  }

  async #subscribe(): Promise<void> {
    const params = this.#cursor === undefined ? {} : { after: this.#cursor };
    const subscribed = await this.#client.attached(Subscribed, METHODS.subscribe, params);
    this.#subscription = subscribed.subscription_id;
    this.#cursor ??= subscribed.cursor;
  }

  async #look(): Promise<void> {
    const recorded = await this.#client.call(Events, METHODS.events, { limit: PAGE }, this.#left.signal);
    const { phase, events } = this.state.current;
    this.#add(recorded.events.toReversed(), phase !== 'loading' || events.length > 0);
    await this.#refresh();
  }

  async #refresh(): Promise<void> {
    const { deployments } = await this.#client.call(Deployments, METHODS.deployments, {}, this.#left.signal);
    this.#change({ deployments });
  }

  /** Takes events with the oldest first; keeps them with the newest first. */
  #add(events: readonly EventRow[], isFresh = true): void {
    const { current } = this.state;
    const known = new Set(current.events.map((event) => event.event_id));
    const added = events.filter((event) => !known.has(event.event_id));
    if (added.length === 0) return;
    const fresh = isFresh ? [...added.map((event) => event.event_id), ...current.fresh].slice(0, EVENTS_MAX) : [];
    const kept = [...added.toReversed(), ...current.events].slice(0, EVENTS_MAX);
    this.#change({ events: kept, fresh: new Set(fresh) });
  }

  #schedule(delayMs: number, work: () => Promise<void>): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      work().catch((error: unknown) => this.#change({ failure: toFailure(error) }));
    }, delayMs);
  }

  #change(part: Partial<FeedState>): void {
    this.state.set({ ...this.state.current, ...part });
  }
}
