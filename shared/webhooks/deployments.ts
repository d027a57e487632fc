// The subscriber behind `deployment.list`: keeps the newest `deployment.*` event per service and region, in
// `deployments/<hash>`.

import { createHash } from 'node:crypto';
import { z } from 'zod';
import type { Clock } from '../clock.ts';
import type { Logger } from '../log.ts';
import { digitsOf, isMarked, parseMarked } from '../rpc/json/exact-json.ts';
import { type DocumentOf, defineDocument } from '../store/define-document.ts';
import type { Store } from '../store/store.ts';
import { transact } from '../store/transact.ts';
import type { GatewayEvent } from './event.ts';

const TIMEOUT_MS = 5_000;
const PREFIX = 'deployment.';
/**
 * A time further ahead was written by a wrong clock; such an event counts as older than every event with a valid time.
 */
const AHEAD_MS_MAX = 5 * 60_000;

/**
 * Senders also write `"version": 3` or null. Strings and numbers are kept, with all digits, up to a bound; other values
 * count as absent.
 */
const text = (charsMax: number) =>
  z
    .union([z.string().min(1), z.number(), z.boolean()])
    .optional()
    .catch(undefined)
    .transform((value) => (value === undefined ? undefined : toText(value).slice(0, charsMax)));

function toText(value: string | number | boolean): string {
  return isMarked(value) ? digitsOf(value) : String(value);
}

const Body = z.object({
  data: z.object({
    service: z
      .string()
      .min(1)
      .max(128)
      .refine((service) => !isMarked(service)),
    region: text(64).transform((region) => region ?? 'global'),
    version: text(256),
    status: text(64),
  }),
});

const DeploymentFields = z.object({
  service: z.string(),
  region: z.string(),
  version: z.string().nullable(),
  status: z.string(),
  /** Name, id and time of the event that reported it. */
  event: z.string(),
  event_id: z.string(),
  updated_at: z.string(),
  updated_at_ms: z.number(),
  /** Time of arrival of that event; absent in documents of older versions. */
  recorded_at_ms: z.number().exactOptional(),
  /** Number of events that have changed this document; a repeated delivery does not count. */
  changes: z.number(),
});

export const Deployments = defineDocument({
  collection: 'deployments',
  schema: DeploymentFields,
  queries: [{ orderBy: 'service' }],
  owned: 'deployment',
  id: 'hash of service and region',
  holds: 'latest state',
  writtenBy: 'the `deployments` subscriber',
  kept: 'permanently',
});
export type DeploymentDocument = DocumentOf<typeof Deployments>;

/** `stale`: the document has a newer event. `ignored`: no deployment event, or one without a service. */
export type Applied = 'applied' | 'duplicate' | 'stale' | 'ignored';

/**
 * Applies one event, at most once. The events of a service and region are ordered by time, arrival and id, and only a
 * later event replaces the stored one. The transaction compares a repeated event with the stored one, so no list of
 * deliveries is needed. Throws RpcError `unavailable`; the event must then be delivered again.
 */
export async function applyDeploymentEvent(
  services: { readonly store: Store; readonly log: Logger; readonly clock: Clock },
  event: GatewayEvent,
  options: { readonly signal?: AbortSignal } = {},
): Promise<Applied> {
  if (!event.type.startsWith(PREFIX)) return 'ignored';
  const data = dataOf(event.body);
  if (data === undefined) {
    services.log.warn('deployment event without a usable service', { event_id: event.id, event: event.type });
    return 'ignored';
  }
  const timeMs = Date.parse(event.time);
  const nowMs = services.clock.now();
  const { result } = await transact(
    services.store,
    [Deployments.ref(deploymentId(data.service, data.region))],
    ([read]) => {
      if (read === undefined) throw new Error('the store returned fewer documents than requested');
      const current = Deployments.read(read);
      if (current?.event_id === event.id) return { writes: [], result: 'duplicate' as const };
      if (current !== undefined && !isNewer(event, timeMs, current, nowMs))
        return { writes: [], result: 'stale' as const };
      const next: DeploymentDocument = {
        ...current,
        service: data.service,
        region: data.region,
        version: data.version ?? null,
        status: data.status ?? event.type.slice(PREFIX.length),
        event: event.type,
        event_id: event.id,
        updated_at: event.time,
        updated_at_ms: timeMs,
        recorded_at_ms: event.recordedAtMs,
        changes: (current?.changes ?? 0) + 1,
      };
      return { writes: [Deployments.write(read.ref, next)], result: 'applied' as const };
    },
    { timeoutMs: TIMEOUT_MS, ...options },
  );
  return result;
}

function deploymentId(service: string, region: string): string {
  return createHash('sha256')
    .update(JSON.stringify([service, region]))
    .digest('base64url');
}

function isNewer(
  { recordedAtMs, id }: GatewayEvent,
  timeMs: number,
  current: DeploymentDocument,
  nowMs: number,
): boolean {
  const isAhead = timeMs > nowMs + AHEAD_MS_MAX;
  if (isAhead !== current.updated_at_ms > nowMs + AHEAD_MS_MAX) return !isAhead;
  if (timeMs !== current.updated_at_ms) return timeMs > current.updated_at_ms;
  const { recorded_at_ms = 0, event_id } = current;
  return recordedAtMs === recorded_at_ms ? id > event_id : recordedAtMs > recorded_at_ms;
}

function dataOf(body: string): z.output<typeof Body>['data'] | undefined {
  try {
    return Body.parse(parseMarked(body)).data;
  } catch {
    return undefined;
  }
}
