// The traffic: twenty keys, each a client with loops of its own. Most talk, some deliver webhooks, some lean on small
// limits.
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { type Client, call, post } from './call.ts';
import type { Fleet } from './fleet.ts';
import type { Delivery, Journal, Session } from './journal.ts';
import type { Random } from './random.ts';
import { playScene } from './talk.ts';
import type { Talker } from './talker.ts';

type Part = 'talk' | 'deliver' | 'lean';

export interface Key {
  readonly id: string;
  readonly key: string;
  readonly part: Part;
  readonly limits: string;
}

/** Twenty keys: what they do, how many loops do it, and what they may. */
const PARTS: readonly { readonly part: Part; readonly loops: number; readonly limits: readonly string[] }[] = [
  { part: 'talk', loops: 2, limits: Array.from({ length: 14 }, () => '100000/minute') },
  { part: 'deliver', loops: 2, limits: ['100000/minute', '100000/minute'] },
  { part: 'lean', loops: 1, limits: ['20/minute', '60/minute', '30/minute,200/hour', '12/minute,100000/day'] },
];

const PAUSE_MS: Readonly<Record<Part, readonly [number, number]>> = {
  talk: [100, 1_500],
  deliver: [100, 600],
  lean: [300, 2_500],
};

/** A sender gives up an unacknowledged delivery after so many attempts. */
const ATTEMPTS_MAX = 12;

export function createKeys(): Key[] {
  const all = PARTS.flatMap(({ part, limits }) => limits.map((limit) => ({ part, limits: limit })));
  return all.map((row, index) => ({ id: `key${index + 1}`, key: `soak-${randomBytes(18).toString('hex')}`, ...row }));
}

export interface Traffic {
  readonly clients: ReadonlyMap<string, Talker>;
  /** Resolves when every loop has come to its end. */
  stop(): Promise<void>;
}

export interface TrafficParts {
  readonly keys: readonly Key[];
  readonly fleet: Fleet;
  readonly journal: Journal;
  readonly random: Random;
  readonly isDisturbed: () => boolean;
}

export function startTraffic({ keys, fleet, journal, random, isDisturbed }: TrafficParts): Traffic {
  const stopping = new AbortController();
  const clients = new Map<string, Talker>();
  const loops: Promise<void>[] = [];
  const shared = { slowReaders: 0 };
  for (const { id, key, part } of keys) {
    const strangers = (): readonly Session[] => journal.sessions.filter(({ keyId, exists }) => keyId !== id && exists);
    const own = { fleet, random: random.fork(), open: [], strangers, serial: 0, shared };
    const client: Talker = { keyId: id, key, journal, isDisturbed, ...own };
    clients.set(id, client);
    const count = PARTS.find((row) => row.part === part)?.loops ?? 1;
    for (let index = 0; index < count; index++) loops.push(loop(client, part));
  }

  async function loop(client: Talker, part: Part): Promise<void> {
    const [min, max] = PAUSE_MS[part];
    while (!stopping.signal.aborted) {
      if (part === 'talk') await playScene(client);
      else if (part === 'deliver') await deliver(client, fleet, stopping.signal);
      else await lean(client);
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

/**
 * One webhook delivery, repeated as senders do until it is acknowledged; some are sent several times at once, or once
 * more later.
 */
async function deliver(client: Talker, fleet: Fleet, stopping: AbortSignal): Promise<void> {
  const { random, journal, keyId } = client;
  const id = `${keyId}d${++client.serial}`;
  const service = `service-${random.int(1, 5)}`;
  const body = JSON.stringify({ event: 'deployment.success', data: { service, version: id, region: 'soak' } });
  const delivery: Delivery = { keyId, id, body, eventIds: [], firsts: 0 };
  journal.deliver(delivery);
  const send = async (): Promise<void> => {
    const answer = await post(client, random.pick(fleet.instances), '/webhook', body, 1, { 'webhook-id': id });
    if (answer !== undefined) judgeReceipt(client, delivery, answer.httpStatus, answer.body);
  };
  if (random.chance(0.3)) await Promise.all([send(), send(), send()]);
  for (let attempt = 0; attempt < ATTEMPTS_MAX && delivery.eventIds.length === 0; attempt++) {
    await send();
    if (delivery.eventIds.length === 0) await sleep(random.int(200, 2_000));
    if (stopping.aborted) break;
  }
  if (delivery.eventIds.length > 0 && random.chance(0.2)) await send();
}

function judgeReceipt({ journal, isDisturbed }: Client, delivery: Delivery, httpStatus: number, body: unknown): void {
  const { checks } = journal;
  const receipt = typeof body === 'object' && body !== null ? body : {};
  if ('event_id' in receipt && typeof receipt.event_id === 'string') {
    delivery.eventIds.push(receipt.event_id);
    if ('duplicate' in receipt && receipt.duplicate === false) delivery.firsts++;
    journal.count(httpStatus === 202 ? 'deliveries queued' : 'deliveries accepted');
    return;
  }
  const fine = httpStatus === 503 ? isDisturbed() : httpStatus < 500;
  checks.check('errors', fine, () => `/webhook: HTTP ${httpStatus} ${JSON.stringify(body).slice(0, 200)}`);
}

/** More calls at once than the limit lets through: single ones that cost work, cheap ones, and batches. */
async function lean(client: Talker): Promise<void> {
  const { random, fleet } = client;
  const session_id = 'nobody';
  const shots = Array.from({ length: random.int(3, 12) }, () => {
    const instance = random.pick(fleet.instances);
    if (random.chance(0.2)) return call(client, instance, 'conversation.status', { session_id }, random.int(2, 5));
    return call(client, instance, random.chance(0.6) ? 'conversation.cancel' : 'conversation.status', { session_id });
  });
  await Promise.all(shots);
}
