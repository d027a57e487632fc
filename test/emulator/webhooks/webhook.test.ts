// The webhook pipeline in real processes on Firestore and Pub/Sub loses nothing that it has acknowledged and applies
// nothing twice, at whichever step a process is killed.
import { afterEach, describe, expect, inject, test } from 'vitest';
import {
  deploymentsOf,
  eventsOf,
  outboxSize,
  prepare,
  type WebhookFixture,
} from '../../support/fixtures/webhooks/webhook-emulator.ts';
import { STEPS } from '../../support/fixtures/webhooks/webhook-processes.ts';
import { describeWith } from '../../support/requirements.ts';

const hosts = { firestoreHost: inject('firestoreHost'), pubsubHost: inject('pubsubHost') };
const DELIVERIES = 24;
const PARALLEL = 4;
const CLAIM_OVER_MS = 31_000;
const DIE_ON = 7;

let fixture: WebhookFixture | undefined;
afterEach(async () => {
  await fixture?.close();
  fixture = undefined;
});

/** One event per service, so that every effect can be counted on its own. */
const bodyOf = (n: number) => ({
  event: 'deployment.success',
  timestamp: '2025-01-13T10:30:00Z',
  data: { service: `service-${n}`, version: '486a13c9', region: 'us-central1', status: 'healthy' },
});

interface Attempt {
  readonly n: number;
  /** The event's id, once acknowledged. */
  readonly acknowledged: string | undefined;
}

/** Sends each delivery once, a few at a time; a broken connection is an answer like any other. */
async function deliver(url: string, numbers: readonly number[]): Promise<Attempt[]> {
  const attempts: Attempt[] = [];
  const queue = numbers.values();
  const sender = async (): Promise<void> => {
    for (const n of queue) {
      const answer = await fetch(`${url}/webhook`, {
        method: 'POST',
        headers: { 'X-API-Key': 'dev-key', 'webhook-id': `msg_${n}` },
        body: JSON.stringify(bodyOf(n)),
      }).then(
        async (response) => (response.ok ? ((await response.json()) as { event_id: string }).event_id : undefined),
        () => undefined,
      );
      attempts.push({ n, acknowledged: answer });
    }
  };
  await Promise.all(Array.from({ length: PARALLEL }, sender));
  return attempts;
}

/** Sends what was not acknowledged again, after the Retry-After of a 503, until all are acknowledged. */
async function deliverAll(url: string, numbers: readonly number[]): Promise<Attempt[]> {
  const done: Attempt[] = [];
  let open = numbers;
  const round = async (): Promise<readonly number[]> => {
    const attempts = await deliver(url, open);
    done.push(...attempts.filter((attempt) => attempt.acknowledged !== undefined));
    open = attempts.filter((attempt) => attempt.acknowledged === undefined).map(({ n }) => n);
    return open;
  };
  await expect.poll(round, { interval: 1_000 }).toEqual([]);
  return done;
}

async function sweepAt(url: string): Promise<void> {
  const response = await fetch(`${url}/webhook/sweep`, { method: 'POST', headers: { 'X-API-Key': 'dev-key' } });
  expect(response.status).toBe(200);
}

describeWith('emulators', 'webhooks over Firestore and Pub/Sub', () => {
  describe.each(STEPS)('a process killed %s', (dieAt) => {
    test('a process that is killed loses nothing it acknowledged, and nothing takes effect twice', {
      timeout: 90_000,
    }, async () => {
      fixture = await prepare(hosts);
      const { store } = fixture;
      const all = Array.from({ length: DELIVERIES }, (_, n) => n);
      const first = await fixture.start({ dieAt, dieOn: DIE_ON });
      const attempts = await deliver(first.url, all);
      expect(await first.ended).toBe('SIGKILL');
      const acknowledged = attempts.filter((attempt) => attempt.acknowledged !== undefined);
      const open = attempts.filter((attempt) => attempt.acknowledged === undefined);

      // Nobody repeats anything: what was acknowledged arrives by the sweeper of another instance alone.
      const second = await fixture.start({ skewMs: CLAIM_OVER_MS });
      await sweepAt(second.url);
      const ids = acknowledged.map((attempt) => attempt.acknowledged);
      await expect
        .poll(async () => (await deploymentsOf(store)).map(({ event_id }) => event_id), { timeout: 30_000 })
        .toEqual(expect.arrayContaining(ids));

      // The senders repeat what was not acknowledged, and some of what was.
      await deliverAll(second.url, [...open.map(({ n }) => n), ...acknowledged.slice(0, 5).map(({ n }) => n)]);
      await sweepAt(second.url);
      await expect.poll(async () => (await deploymentsOf(store)).length, { timeout: 30_000 }).toBe(DELIVERIES);

      const deployments = await deploymentsOf(store);
      expect(deployments.filter(({ changes }) => changes !== 1)).toEqual([]);
      const events = await eventsOf(store);
      expect(events).toHaveLength(DELIVERIES);
      expect(events.filter(({ state }) => state !== 'sent')).toEqual([]);
      expect(await outboxSize(store)).toBe(0);
    });
  });

  describe('several instances', () => {
    test('several instances that take the same deliveries at the same time record and apply each of them once', {
      timeout: 60_000,
    }, async () => {
      fixture = await prepare(hosts);
      const { store } = fixture;
      const all = Array.from({ length: DELIVERIES }, (_, n) => n);
      const instances = [await fixture.start(), await fixture.start(), await fixture.start()];
      const attempts = (await Promise.all(instances.map(({ url }) => deliverAll(url, all)))).flat();
      expect(new Set(attempts.map((attempt) => attempt.acknowledged)).size).toBe(DELIVERIES);
      await Promise.all(instances.map(({ url }) => sweepAt(url)));
      await expect.poll(async () => (await deploymentsOf(store)).length, { timeout: 30_000 }).toBe(DELIVERIES);
      expect((await deploymentsOf(store)).filter(({ changes }) => changes !== 1)).toEqual([]);
      expect(await outboxSize(store)).toBe(0);
    });
  });
});
