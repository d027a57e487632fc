// Events without a gap: the recorded ones, then the live ones from where those ended, over every reconnection. Without
// a WebSocket it looks again every few seconds.
import { METHODS, NOTIFICATIONS } from '../../shared/protocol.ts';
import type { Client } from './client.ts';
import { type Failure, toFailure } from './failure.ts';
import { type DeploymentRow, Deployments, type EventRow, Events, LiveEvent, Subscribed } from './results.ts';
import { createValue, type Value } from './view.ts';

export interface FeedState {
  readonly phase: 'loading' | 'live' | 'polling';
  readonly events: readonly EventRow[];
  /** Ids of events that came while the page was open. */
  readonly fresh: ReadonlySet<string>;
  readonly deployments: readonly DeploymentRow[];
  readonly failure?: Failure | undefined;
}

export interface EventFeed {
  readonly state: Value<FeedState>;
  refreshSoon(): void;
  restart(): void;
  close(): void;
}

const EVENTS_MAX = 200;
const POLL_MS = 15_000;
/** Deployments are applied by a subscriber, soon after the event itself. */
const REFRESH_MS = 700;

export function openEventFeed(client: Client): EventFeed {
  const state = createValue<FeedState>({ phase: 'loading', events: [], fresh: new Set(), deployments: [] });
  const change = (part: Partial<FeedState>): void => state.set({ ...state.current, ...part });
  const left = new AbortController();
  let cursor: string | undefined;
  let subscription: string | undefined;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let starting = false;

  const leave = client.listen((method, params) => {
    const live = method === NOTIFICATIONS.webhookEvent ? LiveEvent.safeParse(params) : undefined;
    if (!live?.success || live.data.subscription_id !== subscription) return;
    cursor = live.data.cursor;
    const { subscription_id: _, cursor: __, ...event } = live.data;
    add([event]);
    if (event.event.startsWith('deployment')) refreshSoon();
  });
  const unwatch = client.link.subscribe(() => void start());
  void start();

  /** Subscribes first and reads what is recorded after that: nothing falls between. */
  async function start(): Promise<void> {
    if (starting || left.signal.aborted) return;
    const link = client.link.current;
    if (link !== 'open' && link !== 'absent') return change({ phase: 'loading' });
    starting = true;
    try {
      change({ failure: undefined });
      if (link === 'open') {
        const params = cursor === undefined ? {} : { after: cursor };
        const subscribed = await client.attached(Subscribed, METHODS.subscribe, params);
        subscription = subscribed.subscription_id;
        cursor ??= subscribed.cursor;
      }
      await look();
      change({ phase: link === 'open' ? 'live' : 'polling' });
    } catch (error) {
      const failure = toFailure(error);
      if (failure.reason !== 'connection_lost') change({ failure });
    }
    starting = false;
    if (client.link.current === 'absent' && !left.signal.aborted) schedule(POLL_MS, start);
  }

  async function look(): Promise<void> {
    const { signal } = left;
    const recorded = await client.call(Events, METHODS.events, { limit: 50 }, { signal });
    const isFirst = state.current.phase === 'loading' && state.current.events.length === 0;
    add(recorded.events.toReversed(), !isFirst);
    await refresh();
  }

  async function refresh(): Promise<void> {
    const { deployments } = await client.call(Deployments, METHODS.deployments, {}, { signal: left.signal });
    change({ deployments });
  }

  /** Oldest first in, newest first kept. */
  function add(events: readonly EventRow[], isFresh = true): void {
    const known = new Set(state.current.events.map((event) => event.event_id));
    const added = events.filter((event) => !known.has(event.event_id));
    if (added.length === 0) return;
    const kept = [...added.toReversed(), ...state.current.events].slice(0, EVENTS_MAX);
    const fresh = isFresh ? [...added.map((event) => event.event_id), ...state.current.fresh].slice(0, EVENTS_MAX) : [];
    change({ events: kept, fresh: new Set(fresh) });
  }

  function schedule(delayMs: number, work: () => Promise<void>): void {
    clearTimeout(timer);
    timer = setTimeout(() => work().catch((error: unknown) => change({ failure: toFailure(error) })), delayMs);
  }

  function refreshSoon(): void {
    schedule(REFRESH_MS, client.link.current === 'absent' ? look : refresh);
  }

  return {
    state,
    refreshSoon,
    restart: () => void start(),
    close() {
      left.abort();
      clearTimeout(timer);
      leave();
      unwatch();
      if (subscription === undefined || client.link.current !== 'open') return;
      client.attached(Subscribed, METHODS.unsubscribe, { subscription_id: subscription }).catch(() => {});
    },
  };
}
