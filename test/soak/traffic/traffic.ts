// Runs the traffic: 23 keys, each a client with its own loops. Most have conversations, some deliver webhooks, some
// exceed small limits, one calls more often than its limit allows, some export and erase all that they have.
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Random } from '../../support/random.ts';
import type { Fleet } from '../fleet/fleet.ts';
import type { Journal } from '../journal/journal.ts';
import type { Delivery, Session } from '../journal/journal-records.ts';
import type { ProviderLog } from '../journal/provider-log.ts';
import { BUSY_LIMIT, keepBusy } from './busy-owner.ts';
import { type Client, call, post } from './call.ts';
import type { ConversationClient } from './conversation-client.ts';
import { runScenario } from './conversation-scenarios.ts';
import { useAndErase } from './owner-scenarios.ts';

type Role = 'converse' | 'deliver' | 'exceed' | 'busy' | 'erase';

export interface Key {
  readonly id: string;
  readonly key: string;
  readonly role: Role;
  readonly limits: string;
}

/** The keys by role: how many loops each has, and the limits of each key. */
const ROLES: readonly { readonly role: Role; readonly loops: number; readonly limits: readonly string[] }[] = [
  { role: 'converse', loops: 2, limits: Array.from({ length: 14 }, () => '100000/minute') },
  { role: 'deliver', loops: 2, limits: ['100000/minute', '100000/minute'] },
  { role: 'exceed', loops: 1, limits: ['20/minute', '60/minute', '30/minute,200/hour', '12/minute,100000/day'] },
  { role: 'busy', loops: 1, limits: [`${BUSY_LIMIT}/minute`] },
  { role: 'erase', loops: 1, limits: ['100000/minute', '100000/minute'] },
];

const PAUSE_MS: Readonly<Record<Role, readonly [number, number]>> = {
  converse: [100, 1_500],
  deliver: [100, 600],
  exceed: [300, 2_500],
  busy: [0, 0],
  erase: [500, 3_000],
};

/** Attempts of one delivery without an acknowledgement. */
const ATTEMPTS_MAX = 12;

export function createKeys(): Key[] {
  const all = ROLES.flatMap(({ role, limits }) => limits.map((limit) => ({ role, limits: limit })));
  return all.map((row, index) => ({ id: `key${index + 1}`, key: `soak-${randomBytes(18).toString('hex')}`, ...row }));
}

export interface Traffic {
  readonly clients: ReadonlyMap<string, ConversationClient>;
  /** Resolves when every loop has ended. */
  stop(): Promise<void>;
}

export interface TrafficDeps {
  readonly keys: readonly Key[];
  readonly fleet: Fleet;
  readonly journal: Journal;
  readonly providerLog: ProviderLog;
  readonly random: Random;
  readonly isOutage: () => boolean;
  readonly isSandboxOutage: () => boolean;
}

export function startTraffic({ keys, fleet, journal, providerLog, random, ...outages }: TrafficDeps): Traffic {
  const stopping = new AbortController();
  const clients = new Map<string, ConversationClient>();
  const loops: Promise<void>[] = [];
  const shared = { slowReaders: 0 };
  for (const { id, key, role } of keys) {
    const foreignSessions = (): readonly Session[] =>
      journal.sessions.filter(({ keyId, exists }) => keyId !== id && exists);
    const own = { fleet, providerLog, random: random.fork(), open: [], foreignSessions, serial: 0, shared };
    const client: ConversationClient = { keyId: id, key, journal, ...outages, ...own };
    clients.set(id, client);
    const count = ROLES.find((row) => row.role === role)?.loops ?? 1;
    for (let index = 0; index < count; index++) loops.push(loop(client, role));
  }

  async function loop(client: ConversationClient, role: Role): Promise<void> {
    const [min, max] = PAUSE_MS[role];
    while (!stopping.signal.aborted) {
      if (role === 'converse') await runScenario(client);
      else if (role === 'deliver') await deliver(client, fleet, stopping.signal);
      else if (role === 'busy') await keepBusy(client, stopping.signal);
      else if (role === 'erase') await useAndErase(client);
      else await exceedLimits(client);
      await sleep(client.random.int(min, max), undefined, { signal: stopping.signal }).catch(() => {});
    }
  }

  return {
    clients,
    async stop() {
      stopping.abort();
      await Promise.all(loops);
    },
  };
}

/** One webhook delivery, repeated until it is acknowledged; some are sent several times at once, or again later. */
async function deliver(client: ConversationClient, fleet: Fleet, stopping: AbortSignal): Promise<void> {
  const { random, journal, keyId } = client;
  const id = `${keyId}d${++client.serial}`;
  const service = `service-${random.int(1, 5)}`;
  const body = JSON.stringify({ event: 'deployment.success', data: { service, version: id, region: 'soak' } });
  const delivery: Delivery = { keyId, id, body, eventIds: [], firsts: 0 };
  journal.recordDelivery(delivery);
  const send = async (): Promise<void> => {
    const response = await post(client, random.pick(fleet.instances), '/webhook', body, 1, { 'webhook-id': id });
    if (response !== undefined) checkReceipt(client, delivery, response.httpStatus, response.body);
  };
  if (random.chance(0.3)) await Promise.all([send(), send(), send()]);
  for (let attempt = 0; attempt < ATTEMPTS_MAX && delivery.eventIds.length === 0; attempt++) {
    await send();
    if (delivery.eventIds.length === 0) await sleep(random.int(200, 2_000));
    if (stopping.aborted) break;
  }
  if (delivery.eventIds.length > 0 && random.chance(0.2)) await send();
}

function checkReceipt({ journal, isOutage }: Client, delivery: Delivery, httpStatus: number, body: unknown): void {
  const { checks } = journal;
  const receipt = typeof body === 'object' && body !== null ? body : {};
  if ('event_id' in receipt && typeof receipt.event_id === 'string') {
    delivery.eventIds.push(receipt.event_id);
    if ('duplicate' in receipt && receipt.duplicate === false) delivery.firsts++;
    journal.count(httpStatus === 202 ? 'deliveries queued' : 'deliveries accepted');
    return;
  }
  const isExpected = httpStatus === 503 ? isOutage() : httpStatus < 500;
  checks.check('errors', isExpected, () => `/webhook: HTTP ${httpStatus} ${JSON.stringify(body).slice(0, 200)}`);
}

/** More calls at once than the limit admits: calls of both costs, and batches. */
async function exceedLimits(client: ConversationClient): Promise<void> {
  const { random, fleet } = client;
  const session_id = 'missing';
  const calls = Array.from({ length: random.int(3, 12) }, () => {
    const instance = random.pick(fleet.instances);
    if (random.chance(0.2)) return call(client, instance, 'conversation.status', { session_id }, random.int(2, 5));
    return call(client, instance, random.chance(0.6) ? 'conversation.cancel' : 'conversation.status', { session_id });
  });
  await Promise.all(calls);
}
