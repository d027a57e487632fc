// Audits the counts of a run: admissions against limits, deliveries against recorded and published events, resident
// memory against the same process earlier. Reads the store for counters that the API does not return.

import { setTimeout as sleep } from 'node:timers/promises';
import { parseLimits } from '../../../shared/config/values/limits.ts';
import { isObject } from '../../../shared/json/json-object.ts';
import { toLimitRef, toLimitState } from '../../../shared/rate-limit/windows/limit-document.ts';
import type { Fleet } from '../fleet/fleet.ts';
import type { Journal } from '../journal/journal.ts';
import { call } from '../traffic/call.ts';
import type { Subscriber } from '../traffic/subscriber.ts';
import type { Key } from '../traffic/traffic.ts';
import type { AuditDeps } from './audit-request.ts';

/** Size of the bucket that an instance uses without the store; no key of the soak has a limit of this number. */
const BUCKET_MAX = 10;
/** An outbox entry that failed twice is due again after two minutes. */
const PUBLISHED_WITHIN_MS = 180_000;
const PAGE_SIZE = 100;
const GROWTH_MAX = 1.2;
/** A shorter run is all warm-up, so its quarters cannot show a leak. */
const MEMORY_RUN_MS_MIN = 230_000;

/** Limits from which on calls of a busy owner may be counted in blocks. */
const BLOCKS_MIN = 1_000;
/** A window of a busy owner is used up as far as blocks allow. */
const USED_UP_PART = 0.96;

/**
 * Each admission of one window takes its own part of the quota, whichever instance admitted it. With blocks, several
 * calls may be answered with the same `remaining`, so the cost of the calls is added up instead.
 */
export function auditWindows({ journal }: Pick<AuditDeps, 'journal'>): void {
  const { checks, admissions } = journal;
  const [degraded, counted] = [true, false].map((isDegraded) => {
    return admissions.filter(({ limit }) => (limit === BUCKET_MAX) === isDegraded);
  });
  const windows = Map.groupBy(counted ?? [], ({ keyId, limit, reset }) => `${keyId}, ${limit} until ${reset}`);
  for (const [window, own] of windows) {
    const max = own[0]?.limit ?? 0;
    if (max >= BLOCKS_MIN) {
      const used = own.reduce((sum, { cost }) => sum + cost, 0);
      checks.check('admissions', used <= max, () => `${window}: ${used} admitted`);
      if (used >= max * USED_UP_PART) journal.count('windows of a busy owner used up');
      continue;
    }
    let usedUpTo = 0;
    for (const { remaining, cost, limit } of own.sort((a, b) => a.remaining - b.remaining)) {
      const isFree = remaining >= usedUpTo && remaining + cost <= limit;
      checks.check('admissions', isFree, () => `${window}: admitted again with ${remaining} left after ${cost}`);
      usedUpTo = remaining + cost;
    }
    if (own.some(({ remaining }) => remaining === 0)) journal.count('windows used up');
  }
  const buckets = Map.groupBy(degraded ?? [], ({ keyId, process, reset }) => `${keyId} on ${process} until ${reset}`);
  for (const [bucket, own] of buckets) {
    const used = own.reduce((sum, { cost }) => sum + cost, 0);
    checks.check('degraded', used <= BUCKET_MAX, () => `${bucket}: ${used}`);
  }
}

/** The same, and the counters of the store: at most the limit, and at least what was admitted. */
export async function auditLimits({ journal, fleet }: AuditDeps, keys: readonly Key[]): Promise<void> {
  auditWindows({ journal });
  const { checks } = journal;
  const limits = new Map(keys.map(({ id, limits: text }) => [id, parseLimits(text)]));
  for (const { id } of keys) {
    const [snapshot] = await fleet.store.get([toLimitRef(id)]);
    for (const { window_ms, start_ms, count } of toLimitState(snapshot).windows) {
      const limit = limits.get(id)?.find(({ windowMs }) => windowMs === window_ms);
      if (limit === undefined) continue;
      checks.check('admissions', count <= limit.max, () => `${id}: ${count} of ${limit.max} stored`);
      const admitted = journal.admissions
        .filter(({ keyId, limit: max, reset }) => {
          return keyId === id && max === limit.max && reset * 1_000 === start_ms + window_ms;
        })
        .reduce((sum, { cost }) => sum + cost, 0);
      checks.check('admissions', admitted <= count, () => `${id}: ${admitted} admitted, ${count} counted`);
    }
  }
}

/** Each acknowledged delivery is recorded once and reaches the subscription at least once. */
export async function auditEvents({ journal, fleet, clients }: AuditDeps, subscriber: Subscriber): Promise<void> {
  const { checks, deliveries } = journal;
  const acknowledged = deliveries.filter(({ eventIds }) => eventIds.length > 0);
  const missing = (): typeof acknowledged =>
    acknowledged.filter(({ eventIds }) => !subscriber.received.has(eventIds[0] ?? ''));
  const startMs = performance.now();
  while (missing().length > 0 && performance.now() - startMs < PUBLISHED_WITHIN_MS) await sleep(1_000);
  journal.count('seconds until the last event arrived', Math.round((performance.now() - startMs) / 1_000));

  const [client] = clients.values();
  const recorded = new Map<string, string[]>();
  for (let after: unknown; client !== undefined; ) {
    const params = { order: 'oldest', limit: PAGE_SIZE, ...(after === undefined ? {} : { after }) };
    const page = (await call(client, client.random.pick(fleet.instances), 'events.list', params))?.result;
    if (page === undefined) throw new Error('events.list is not answered after the run');
    for (const event of Array.isArray(page.events) ? page.events.filter(isObject) : []) {
      const version = isObject(event.data) ? String(event.data.version) : '';
      recorded.set(version, [...(recorded.get(version) ?? []), String(event.event_id)]);
    }
    after = page.next_cursor;
    if (after === undefined) break;
  }
  for (const { id, body, eventIds, firsts } of acknowledged) {
    const stored = recorded.get(id) ?? [];
    const [eventId = ''] = eventIds;
    const isOnce = new Set([...stored, ...eventIds]).size === 1 && stored.length === 1;
    checks.check('recorded', isOnce, () => `${id}: acknowledged as ${eventIds.join()}, recorded as ${stored.join()}`);
    checks.check('recorded', firsts <= 1, () => `${id}: acknowledged as new ${firsts} times`);
    const bodies = subscriber.received.get(eventId) ?? [];
    const isUnchanged = bodies.length > 0 && bodies.every((received) => received === body);
    checks.check('published', isUnchanged, () => `${id}: ${eventId} arrived ${bodies.length} times`);
    journal.count('events published twice', bodies.length > 1 ? 1 : 0);
  }
  for (const [id, stored] of recorded) {
    checks.check('recorded', stored.length === 1, () => `${id}: recorded as ${stored.join()}`);
  }
  journal.count('deliveries never acknowledged', deliveries.length - acknowledged.length);
}

export interface MemoryLine {
  readonly instance: string;
  /** Median resident memory of each quarter of the run. */
  readonly quartersMb: readonly number[];
}

/** Checks the processes that ran from start to end of the run. */
export function auditMemory(journal: Journal, { memory }: Fleet, fromMs: number, toMs: number): MemoryLine[] {
  const quarterMs = (toMs - fromMs) / 4;
  const lines: MemoryLine[] = [];
  for (const [instance, samples] of Map.groupBy(memory, (sample) => sample.instance)) {
    if (new Set(samples.map(({ life }) => life)).size > 1) continue;
    const quartersMb = [0, 1, 2, 3].map((quarter) => {
      const startMs = fromMs + quarter * quarterMs;
      const inside = samples.filter(({ atMs }) => atMs >= startMs && atMs < startMs + quarterMs);
      const sizes = inside.map(({ rssBytes }) => rssBytes).sort((a, b) => a - b);
      return Math.round((sizes[sizes.length >> 1] ?? Number.NaN) / 2 ** 20);
    });
    const [, second = Number.NaN, , last = Number.NaN] = quartersMb;
    if (toMs - fromMs >= MEMORY_RUN_MS_MIN) {
      const detail = (): string => `${instance}: ${quartersMb.join(', ')} MB`;
      journal.checks.check('memory', last <= second * GROWTH_MAX, detail);
    }
    lines.push({ instance, quartersMb });
  }
  return lines;
}
