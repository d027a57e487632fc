// A subscription as one long call: the gateway answers it immediately, and its events follow until the user stops it.
// A cut ends it; event-feed.ts continues after one.
import { networkError } from '../../../shared/client/gateway-error.ts';
import { METHODS, NOTIFICATIONS } from '../../../shared/protocol.ts';
import type { Client, OnNotification } from './client.ts';
import { Anything, LiveEvent, Subscribed } from './results.ts';

/**
 * Emits `events.subscribed` first, whatever the transport. Resolves once `signal` has aborted; the gateway then sends
 * no more.
 */
export async function subscribe(
  client: Client,
  params: object,
  onNotification: OnNotification,
  signal: AbortSignal,
): Promise<void> {
  try {
    await client.settled(signal);
    // Over HTTP the call lasts as long as the stream, and ends with its connection.
    if (client.link.current === 'absent')
      await client.stream(Anything, METHODS.subscribe, params, onNotification, signal);
    else await onSocket();
  } catch (error) {
    if (!signal.aborted) throw error;
  }

  async function onSocket(): Promise<void> {
    // Not aborted before the response, because unsubscribing needs the id in it.
    const subscribed = await client.attached(Subscribed, METHODS.subscribe, params);
    const { subscription_id } = subscribed;
    const leave = client.listen((notification) => {
      const live = LiveEvent.safeParse(notification.params);
      if (live.success && live.data.subscription_id === subscription_id) onNotification(notification);
    });
    onNotification({ method: NOTIFICATIONS.subscribed, params: subscribed });
    const over = Promise.withResolvers<void>();
    const unwatch = client.link.subscribe(() => over.reject(networkError('The connection was lost')));
    signal.addEventListener('abort', () => over.resolve());
    if (signal.aborted) over.resolve();
    try {
      await over.promise;
      await client.attached(Anything, METHODS.unsubscribe, { subscription_id });
    } finally {
      unwatch();
      leave();
    }
  }
}
