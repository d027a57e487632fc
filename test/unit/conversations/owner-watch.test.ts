// The owner of a lease or of a place in a queue counts as alive only while it renews it, whatever the clocks of the
// instances show.
import { beforeEach, describe, expect, it } from 'vitest';
import { createOwnerWatch, type OwnerWatch } from '../../../shared/conversations/owner-watch.ts';
import type { Lease } from '../../../shared/conversations/records/documents.ts';
import { createTestClock, type TestClock } from '../../support/fixtures/limiter/rate-limit.ts';

const EIGHT_HOURS_MS = 8 * 3_600_000;

let clock: TestClock;
let owners: OwnerWatch;
beforeEach(() => {
  clock = createTestClock();
  owners = createOwnerWatch(clock, { leaseMs: 30_000, heartbeatMs: 10_000, timeoutMs: 600_000 });
});

const lease = (untilMs: number): Lease => ({
  turn_id: 'turn_1',
  epoch: 1,
  model: 'offline/echo',
  started_at: '',
  lease_until_ms: untilMs,
  stop: null,
  idempotency_id: null,
});

describe('a lease', () => {
  it('a lease within reach counts as its owner wrote it', () => {
    const found = lease(clock.now() + 30_000);
    expect(owners.ofLease(found)).toBe('alive');
    clock.advance(30_000);
    expect(owners.ofLease(found)).toBe('expired');
  });

  it('a lease far ahead is unknown until its owner has missed a heartbeat', () => {
    const found = lease(clock.now() + EIGHT_HOURS_MS);
    expect(owners.ofLease(found)).toBe('unknown');
    clock.advance(owners.unknownMsMax - 1);
    expect(owners.ofLease(found)).toBe('unknown');
    clock.advance(1);
    expect(owners.ofLease(found)).toBe('expired');
  });

  it('a lease far ahead that is renewed counts as alive for the length of one lease', () => {
    owners.ofLease(lease(clock.now() + EIGHT_HOURS_MS));
    clock.advance(10_000);
    const renewed = lease(clock.now() + EIGHT_HOURS_MS);
    expect(owners.ofLease(renewed)).toBe('alive');
    clock.advance(29_999);
    expect(owners.ofLease(renewed)).toBe('alive');
    clock.advance(1);
    expect(owners.ofLease(renewed)).toBe('expired');
  });

  it('a lease is judged by the monotonic clock, however the wall clock steps', () => {
    const found = lease(clock.now() + 400 * 86_400_000);
    expect(owners.ofLease(found)).toBe('unknown');
    clock.step(-EIGHT_HOURS_MS);
    clock.advance(owners.unknownMsMax);
    expect(owners.ofLease(found)).toBe('expired');
  });
});

it('a place in the queue that is far ahead expires when it is not renewed', () => {
  const entry = {
    turn_id: 'turn_2',
    model: 'offline/echo',
    enqueued_at: '',
    alive_until_ms: clock.now() + EIGHT_HOURS_MS,
    idempotency_id: null,
  };
  expect(owners.isWaiting(entry)).toBe(true);
  clock.advance(29_999);
  expect(owners.isWaiting(entry)).toBe(true);
  clock.advance(1);
  expect(owners.isWaiting(entry)).toBe(false);
});
