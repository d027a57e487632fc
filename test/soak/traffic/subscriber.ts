// A real subscription to the topic, as a customer has: keeps every message, so that the audit finds the events that did
// not arrive.
import type { Message } from '@google-cloud/pubsub';
import { openPubsub } from '../../../shared/webhooks/bus/pubsub.ts';

export interface Subscriber {
  /** Bodies of the messages that arrived, by event id. */
  readonly received: ReadonlyMap<string, readonly string[]>;
  close(): Promise<void>;
}

export interface SubscriberOptions {
  readonly projectId: string;
  readonly emulatorHost: string;
  readonly topic: string;
}

/** Resolves when the subscription exists, so that it receives whatever is published later. */
export async function startSubscriber({ projectId, emulatorHost, topic }: SubscriberOptions): Promise<Subscriber> {
  const client = await openPubsub({ projectId, emulatorHost });
  const received = new Map<string, string[]>();
  const [subscription] = await client.topic(topic).createSubscription('soak', { ackDeadlineSeconds: 10 });
  // It reconnects by itself after Pub/Sub was suspended.
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
