// The Pub/Sub bus passes every case of the port on the real emulator, and its message has the specified form on the
// wire.
import { randomBytes } from 'node:crypto';
import { expect, inject, test } from 'vitest';
import { createLogger } from '../../../shared/log.ts';
import { createPubsubBus, openPubsub } from '../../../shared/webhooks/bus/pubsub.ts';
import { startPull } from '../../../shared/webhooks/bus/pubsub-pull.ts';
import type { GatewayEvent } from '../../../shared/webhooks/event.ts';
import { toEvent } from '../../../shared/webhooks/interpret.ts';
import { eventBusCases } from '../../cases/event-bus.cases.ts';
import { deliveryOf, REFERENCE_EVENT } from '../../support/fixtures/webhooks/webhooks.ts';
import { describeWith } from '../../support/requirements.ts';

const log = createLogger({ format: 'json', write: () => {} });
const place = () => ({
  projectId: `demo-pubsub-${randomBytes(6).toString('hex')}`,
  topic: 'gateway-events',
  emulatorHost: inject('pubsubHost'),
});

describeWith('emulators', 'Pub/Sub', () => {
  eventBusCases('the Pub/Sub bus', async () => {
    const options = place();
    const received: GatewayEvent[] = [];
    let news = Promise.withResolvers<void>();
    const stop = await startPull({
      ...options,
      subscription: 'cases',
      log,
      subscriber: async (event) => {
        received.push(event);
        news.resolve();
        news = Promise.withResolvers();
      },
    });
    const bus = createPubsubBus(options);
    return {
      bus,
      async arrived(count, which) {
        for (;;) {
          const wanted = received.filter(which);
          if (new Set(wanted.map(({ id }) => id)).size >= count) return wanted;
          await news.promise;
        }
      },
      async close() {
        await stop();
        await bus.close();
      },
    };
  });

  test("a pull shows the CloudEvents attributes of the reference's deployment.success event", async () => {
    const options = place();
    const client = await openPubsub(options);
    const bus = createPubsubBus(options);
    try {
      const [topic] = await client.createTopic(options.topic);
      await topic.createSubscription('look', { enableMessageOrdering: true });
      const event = toEvent(deliveryOf(REFERENCE_EVENT), Date.now());
      const { messageId } = await bus.publish(event);
      // The REST form of the pull that the gcloud command uses.
      const path = `projects/${options.projectId}/subscriptions/look:pull`;
      const response = await fetch(`http://${options.emulatorHost}/v1/${path}`, {
        method: 'POST',
        headers: { 'Content-Type': 'application/json' },
        body: JSON.stringify({ maxMessages: 1 }),
      });
      expect(await response.json()).toMatchObject({
        receivedMessages: [
          {
            message: {
              data: Buffer.from(JSON.stringify(REFERENCE_EVENT)).toString('base64'),
              attributes: {
                'ce-specversion': '1.0',
                'ce-id': event.id,
                'ce-type': 'deployment.success',
                'ce-source': '/webhook/key/default',
                'ce-time': '2025-01-13T10:30:00Z',
                'content-type': 'application/json',
                event: 'deployment.success',
              },
              messageId,
              orderingKey: 'wrapper',
            },
          },
        ],
      });
    } finally {
      await bus.close();
      await client.close();
    }
  });

  test('a publish to an unreachable bus is refused within its deadline', async () => {
    const options = place();
    const bus = createPubsubBus({ ...options, emulatorHost: '127.0.0.1:9' });
    const event = toEvent(deliveryOf(REFERENCE_EVENT), Date.now());
    // The SDK's own deadline is ten minutes.
    await expect(bus.publish(event)).rejects.toMatchObject({ reason: 'unavailable' });
    await expect(bus.ping()).rejects.toMatchObject({ reason: 'unavailable' });
    await bus.close();
    await expect(bus.publish(event)).rejects.toMatchObject({ reason: 'unavailable' });
  });
});
