// An event on Pub/Sub is a message of CloudEvents 1.0 in binary mode, with the attribute that subscriptions filter on
// and the key that keeps the order of a service.
import { expect, it } from 'vitest';
import { fromMessage, toMessage } from '../../../shared/webhooks/bus/cloud-event.ts';
import { toEvent } from '../../../shared/webhooks/interpret.ts';
import { deliveryOf, REFERENCE_EVENT } from '../../support/fixtures/webhooks/webhooks.ts';

const NOW_MS = Date.UTC(2026, 0, 1);

it('a message has the body byte for byte, its attributes, and the service as ordering key', () => {
  const event = toEvent(deliveryOf(REFERENCE_EVENT), NOW_MS);
  const message = toMessage(event);
  expect(message).toEqual({
    data: Buffer.from(JSON.stringify(REFERENCE_EVENT)),
    attributes: {
      'ce-specversion': '1.0',
      'ce-id': event.id,
      'ce-type': 'deployment.success',
      'ce-source': '/webhook/key/default',
      'ce-time': '2025-01-13T10:30:00Z',
      'ce-recordedtime': '2026-01-01T00:00:00.000Z',
      'content-type': 'application/json',
      event: 'deployment.success',
    },
    orderingKey: 'wrapper',
  });
  expect(fromMessage(message)).toEqual(event);
});

it('a message of an event without a service is ordered with the others of its sender', () => {
  const event = toEvent(deliveryOf({ type: 'ping' }), NOW_MS);
  expect(toMessage(event)).toMatchObject({
    attributes: { 'ce-time': '2026-01-01T00:00:00.000Z', event: 'ping' },
    orderingKey: '/webhook/key/default',
  });
});
