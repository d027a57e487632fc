// The audit of what is counted: admissions against limits, deliveries against recorded and published events, memory
// against itself. Asks the store where the API does not say.
import { setTimeout as sleep } from 'node:timers/promises';
import { isObject } from '../../shared/client/events.ts';
import { parseLimits } from '../../shared/config/limits.ts';
import { toLimitRef, toLimitState } from '../../shared/rate-limit/limit-document.ts';
import { createFirestoreStore } from '../../shared/store/firestore/firestore.ts';
import type { AuditParts } from './audit.ts';
import { call } from './call.ts';
import type { Fleet } from './fleet.ts';
import type { Journal } from './journal.ts';
import type { Subscriber } from './subscriber.ts';
import type { Key } from './traffic.ts';

/** The bucket that an instance falls back to (a small one); no key here has a limit of this number. */
const BUCKET_MAX = 10;
/** An outbox entry that failed twice is due again after two minutes. */
const PUBLISHED_WITHIN_MS = 180_000;
const PAGE = 100;
const GROWTH_MAX = 1.2;
/** Below this a quarter says nothing about leaks: the process is still warming up. */
const MEMORY_MS_MIN = 230_000;

/** Admissions of one window take places of their own in it, however many instances hand them out. */
export function auditWindows({ journal }: Pick<AuditParts, 'journal'>): void {
  const { checks, admissions } = journal;
  const [degraded, counted] = [true, false].map((is) => {
    return admissions.filter(({ limit }) => (limit === BUCKET_MAX) === is);
  });
  const windows = Map.groupBy(counted ?? [], ({ keyId, limit, reset }) => `${keyId}, ${limit} until ${reset}`);
  for (const [window, own] of windows) {
    let takenTo = 0;
    for (const { remaining, cost, limit } of own.sort((a, b) => a.remaining - b.remaining)) {
      const free = remaining >= takenTo && remaining + cost <= limit;
      checks.check('admissions', free, () => `${window}: admitted again with ${remaining} left after ${cost}`);
      takenTo = remaining + cost;
    }
    if (own.some(({ remaining }) => remaining === 0)) journal.count('windows used up');
  }
  const buckets = Map.groupBy(degraded ?? [], ({ keyId, process, reset }) => `${keyId} on ${process} until ${reset}`);
  for (const [bucket, own] of buckets) {
    const used = own.reduce((sum, { cost }) => sum + cost, 0);
    checks.check('degraded', used <= BUCKET_MAX, () => `${bucket}: ${used}`);
  }
}

/** The same, and what the store has counted: not more than the limit, and not less than was admitted. */
export async function auditLimits({ journal, fleet }: AuditParts, keys: readonly Key[]): Promise<void> {
  auditWindows({ journal });
  const { checks } = journal;
  const limits = new Map(keys.map(({ id, limits: text }) => [id, parseLimits(text)]));
  const store = createFirestoreStore({ projectId: fleet.projectId, emulatorHost: fleet.firestoreHost, clock: Date });
  try {
    for (const { id } of keys) {
      const [snapshot] = await store.get([toLimitRef(id)]);
      for (const { window_ms, start_ms, count } of toLimitState(snapshot).windows) {
        const limit = limits.get(id)?.find(({ windowMs }) => windowMs === window_ms);
        if (limit === undefined) continue;
        checks.check('admissions', count <= limit.max, () => `${id}: ${count} of ${limit.max} stored`);
        const seen = journal.admissions
          .filter(({ keyId, limit: max, reset }) => {
            return keyId === id && max === limit.max && reset * 1_000 === start_ms + window_ms;
          })
          .reduce((sum, { cost }) => sum + cost, 0);
        checks.check('admissions', seen <= count, () => `${id}: ${seen} admitted, ${count} counted`);
      }
    }
  } finally {
    await store.close();
  }
}

/** Every acknowledged delivery once among the recorded events, sent, and at least once at the subscription. */
export async function auditEvents({ journal, fleet, clients }: AuditParts, subscriber: Subscriber): Promise<void> {
  const { checks, deliveries } = journal;
  const acknowledged = deliveries.filter(({ eventIds }) => eventIds.length > 0);
  const missing = (): typeof acknowledged =>
    acknowledged.filter(({ eventIds }) => !subscriber.received.has(eventIds[0] ?? ''));
  const startMs = performance.now();
  while (missing().length > 0 && performance.now() - startMs < PUBLISHED_WITHIN_MS) await sleep(1_000);
  journal.count('seconds until the last event had arrived', Math.round((performance.now() - startMs) / 1_000));

  const [client] = clients.values();
  const recorded = new Map<string, string[]>();
  for (let after: unknown; client !== undefined; ) {
    const params = { order: 'oldest', limit: PAGE, ...(after === undefined ? {} : { after }) };
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
    const one = new Set([...stored, ...eventIds]).size === 1 && stored.length === 1;
    checks.check('recorded', one, () => `${id}: acknowledged as ${eventIds.join()}, recorded as ${stored.join()}`);
    checks.check('recorded', firsts <= 1, () => `${id}: ${firsts} times called new`);
    const bodies = subscriber.received.get(eventId) ?? [];
    const whole = bodies.length > 0 && bodies.every((received) => received === body);
    checks.check('published', whole, () => `${id}: ${eventId} came ${bodies.length} times`);
    journal.count('events published twice', bodies.length > 1 ? 1 : 0);
  }
  for (const [id, stored] of recorded) {
    checks.check('recorded', stored.length === 1, () => `${id}: recorded as ${stored.join()}`);
  }
  journal.count('deliveries given up', deliveries.length - acknowledged.length);
}

export interface MemoryLine {
  readonly instance: string;
  /** Median resident memory of each quarter of the run. */
  readonly quartersMb: readonly number[];
}

/** Of processes that lived through the whole run. */
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
    if (toMs - fromMs >= MEMORY_MS_MIN) {
      const told = (): string => `${instance}: ${quartersMb.join(', ')} MB`;
      journal.checks.check('memory', last <= second * GROWTH_MAX, told);
    }
    lines.push({ instance, quartersMb });
  }
  return lines;
}
