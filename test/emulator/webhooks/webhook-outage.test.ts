// During an outage of Pub/Sub, deliveries are acknowledged as queued; they are published after it.
import { afterAll, afterEach, beforeAll, expect, inject, test } from 'vitest';
import type { Receipt } from '../../../shared/webhooks/accept.ts';
import { type Emulator, startPubsubEmulator } from '../../support/fixtures/database/emulators.ts';
import {
  deploymentsOf,
  eventsOf,
  outboxSize,
  prepare,
  type WebhookFixture,
} from '../../support/fixtures/webhooks/webhook-emulator.ts';
import { describeWith } from '../../support/requirements.ts';

const CLAIM_OVER_MS = 31_000;

describeWith('emulators', 'webhooks while Pub/Sub is down', () => {
  let pubsub: Emulator;
  let fixture: WebhookFixture;

  beforeAll(async () => {
    pubsub = await startPubsubEmulator();
  }, 120_000);
  afterEach(() => fixture.close());
  afterAll(() => pubsub.stop());

  async function send(url: string, n: number): Promise<{ status: number; receipt: Receipt }> {
    const response = await fetch(`${url}/webhook`, {
      method: 'POST',
      headers: { 'X-API-Key': 'dev-key' },
      body: JSON.stringify({ event: 'deployment.success', data: { service: `service-${n}` } }),
    });
    return { status: response.status, receipt: (await response.json()) as Receipt };
  }

  async function recovers(outage: { begin(): Promise<void>; end(): Promise<void> }): Promise<void> {
    fixture = await prepare({ firestoreHost: inject('firestoreHost'), pubsubHost: pubsub.host });
    const first = await fixture.start();
    expect(await send(first.url, 0)).toMatchObject({ status: 200, receipt: { status: 'accepted' } });

    // The emulator, unlike Pub/Sub, forgets what it has not delivered when it stops.
    const { store } = fixture;
    const applied = async () => (await deploymentsOf(store)).map(({ service, changes }) => [service, changes]);
    await expect.poll(applied, { timeout: 30_000 }).toEqual([['service-0', 1]]);

    await outage.begin();
    const during = await Promise.all([1, 2, 3, 4, 5].map((n) => send(first.url, n)));
    for (const answer of during) {
      expect(answer).toMatchObject({ status: 202, receipt: { status: 'queued', message_id: null, duplicate: false } });
    }
    expect(await outboxSize(fixture.store)).toBe(5);
    const { receipt } = await send(first.url, 1);
    expect(receipt).toEqual({ ...during[0]?.receipt, duplicate: true });

    await outage.end();
    // Another instance, half a minute later by its clock, sweeps; the first one works again without a restart.
    const second = await fixture.start({ skewMs: CLAIM_OVER_MS });
    const swept = await fetch(`${second.url}/webhook/sweep`, { method: 'POST', headers: { 'X-API-Key': 'dev-key' } });
    expect(await swept.json()).toEqual({ published: 5, failed: 0, lost: 0 });
    expect(await send(first.url, 6)).toMatchObject({ status: 200 });
    const expected = [0, 1, 2, 3, 4, 5, 6].map((n) => [`service-${n}`, 1]);
    await expect.poll(applied, { timeout: 30_000 }).toEqual(expected);
    expect(await outboxSize(store)).toBe(0);
    expect((await eventsOf(store)).every(({ state }) => state === 'sent')).toBe(true);
  }

  test('deliveries while Pub/Sub is stopped are answered 202 queued, and delivered by the sweeper after its start', {
    timeout: 90_000,
  }, async () => {
    await recovers({
      begin: () => pubsub.stop(),
      end: async () => {
        await pubsub.restart();
        await fixture.subscribe();
      },
    });
  });

  test('deliveries while Pub/Sub is frozen are answered 202 queued within the deadline of a publish', {
    timeout: 90_000,
  }, async () => {
    await recovers({
      begin: async () => pubsub.suspend(),
      end: async () => pubsub.resume(),
    });
  });
});
