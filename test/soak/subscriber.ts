// A real subscription to the topic, as a customer would have: notes every message, and tells afterwards which events
// never came.
import type { Message } from '@google-cloud/pubsub';
import { openPubsub } from '../../shared/webhooks/bus/pubsub.ts';

export interface Subscriber {
  /** Bodies that came for an event id, one per message. */
  readonly received: ReadonlyMap<string, readonly string[]>;
  close(): Promise<void>;
}

export interface SubscriberOptions {
  readonly projectId: string;
  readonly emulatorHost: string;
  readonly topic: string;
}

/** Resolves when nothing published from now on can be missed. */
export async function startSubscriber({ projectId, emulatorHost, topic }: SubscriberOptions): Promise<Subscriber> {
  const client = await openPubsub({ projectId, emulatorHost });
  const received = new Map<string, string[]>();
  const [subscription] = await client.topic(topic).createSubscription('soak', { ackDeadlineSeconds: 10 });
  // It reconnects by itself when Pub/Sub was frozen.
  subscription.on('error', () => {});
  subscription.on('message', (message: Message) => {
    const id = message.attributes['ce-id'] ?? '';
    const bodies = received.get(id) ?? [];
    bodies.push(message.data.toString('utf8'));
    received.set(id, bodies);
    message.ack();
  });
  return {
    received,
    async close() {
      await subscription.close();
      await client.close();
    },
  };
}
