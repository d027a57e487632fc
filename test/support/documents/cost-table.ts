// Generates the table "What a million calls cost" of terraform/COST.md from counts of operations, from which the prices
// follow. Tests count the same operations (test/unit/cost.test.ts,
// test/unit/conversations/turns/billed-writes.test.ts).

/** A number of documents, and which ones. */
interface Documents {
  readonly count: number;
  readonly of?: string;
}

export interface Cost {
  readonly call: string;
  /** Requests to functions, and Pub/Sub messages published or delivered. */
  readonly requests: number;
  readonly messages?: number;
  /** As Firestore bills them. */
  readonly writes: Documents;
  readonly reads: Documents;
  readonly deletes: Documents;
  /** How long a request of the function is open, and the companion and the sandbox service are busy. */
  readonly functionMs: number;
  readonly companionMs?: number;
  readonly sandboxMs?: number;
  readonly logKib: number;
  /** To a client on the internet. */
  readonly sentKib: number;
  /** Whether the price of the model is added. */
  readonly model?: true;
}

/**
 * List prices in USD of us-central1, of a million units: requests, seconds of an instance, documents, messages, and
 * KiB.
 */
export const PRICES = {
  request: 0.4,
  /** 1 CPU and 0.5 GiB, charged while a request is open. */
  functionSecond: 24 + 0.5 * 2.5,
  /** 1 CPU and 0.5 GiB, charged while the instance exists. */
  companionSecond: 18 + 0.5 * 2,
  /** 2 CPUs and 4 GiB, charged while the instance exists. */
  sandboxSecond: 2 * 18 + 4 * 2,
  write: 0.9,
  read: 0.3,
  delete: 0.1,
  /** 40 a TiB, at least 1,000 bytes a message. */
  message: (40 * 1_000 * 1e6) / 2 ** 40,
  /** 0.50 a GiB. */
  logKib: (0.5 * 1e6) / 2 ** 20,
  /** 0.12 a GiB. */
  sentKib: (0.12 * 1e6) / 2 ** 20,
} as const;

/** Requests at a time in an instance of a function, turns in a companion, commands in the sandbox service. */
const CONCURRENCY = 20;

const NONE: Documents = { count: 0 };
const ONE_CALL = { requests: 1, deletes: NONE, functionMs: 30, logKib: 2, sentKib: 1 } as const;
const PROMPT = {
  requests: 1,
  writes: { count: 6, of: 'limiter, admission, conversation, turn twice, usage' },
  reads: { count: 1, of: 'watch for a cancel' },
  deletes: { count: 1, of: 'TTL' },
  functionMs: 5_000,
  logKib: 2.3,
  sentKib: 31,
  model: true,
} as const;
const RESUME = { requests: 1, deletes: NONE, functionMs: 5_000, logKib: 2, sentKib: 31 } as const;

export const COSTS = {
  refused: { call: 'refused by the limit, after the first', ...ONE_CALL, writes: NONE, reads: NONE },
  status: {
    call: '`conversation.status`',
    ...ONE_CALL,
    writes: { count: 1, of: 'limiter' },
    reads: { count: 1 },
  },
  busy: {
    call: 'the same of a busy key, counted in blocks',
    ...ONE_CALL,
    writes: { count: 0.06, of: 'limiter' },
    reads: { count: 1 },
  },
  prompt: { call: '`conversation.prompt`, warm session, streamed for 5 s, `turns = "function"`', ...PROMPT },
  newSession: {
    call: 'the same in a new session',
    ...PROMPT,
    writes: { count: 7, of: 'the same, and the total of stored bytes' },
  },
  companion: {
    call: 'the same in a warm session, `turns = "companion"`',
    ...PROMPT,
    companionMs: 5_000,
    logKib: 3.3,
  },
  minute: {
    call: 'the same for a minute, `turns = "companion"`',
    ...PROMPT,
    writes: { count: 19, of: 'the turn every 10 s in the end, a heartbeat every 10 s' },
    reads: { count: 7, of: 'the watch: one, and each heartbeat' },
    functionMs: 60_000,
    companionMs: 60_000,
    logKib: 3.3,
    sentKib: 372,
  },
  resume: {
    call: '`conversation.resume` of a turn that runs 5 s elsewhere, first reader on an instance',
    ...RESUME,
    writes: { count: 6, of: 'limiter, the mark of the reader, the turn 4 times more, every second' },
    reads: {
      count: 12,
      of: 'session 4 times, watch of the turn: one and each change; the watch of the owner: the mark',
    },
  },
  follower: {
    call: 'the same, each further reader on that instance',
    ...RESUME,
    writes: { count: 1, of: 'limiter' },
    reads: { count: 1, of: 'session' },
  },
  exec: {
    call: '`exec` of 1 s',
    requests: 1,
    writes: { count: 1, of: 'limiter' },
    reads: NONE,
    deletes: NONE,
    functionMs: 1_000,
    companionMs: 1_000,
    sandboxMs: 1_000,
    logKib: 4,
    sentKib: 1,
  },
  webhook: {
    call: '`/webhook` with the `deployments` subscriber',
    requests: 2,
    messages: 2,
    writes: { count: 5, of: 'limiter, event twice, outbox, deployment' },
    reads: { count: 1, of: 'deployment' },
    deletes: { count: 2, of: 'outbox, TTL' },
    functionMs: 60,
    logKib: 4,
    sentKib: 1,
  },
} as const satisfies Readonly<Record<string, Cost>>;

/** USD of a million such calls, without the model. */
export function priceOf(cost: Cost): number {
  return (
    PRICES.request * cost.requests +
    PRICES.message * (cost.messages ?? 0) +
    (PRICES.functionSecond * (cost.functionMs / 1_000)) / CONCURRENCY +
    (PRICES.companionSecond * ((cost.companionMs ?? 0) / 1_000)) / CONCURRENCY +
    (PRICES.sandboxSecond * ((cost.sandboxMs ?? 0) / 1_000)) / CONCURRENCY +
    PRICES.write * cost.writes.count +
    PRICES.read * cost.reads.count +
    PRICES.delete * cost.deletes.count +
    PRICES.logKib * cost.logKib +
    PRICES.sentKib * cost.sentKib
  );
}

export function costTable(): string {
  const rows = Object.values<Cost>(COSTS).map((cost) => {
    const requests = `${cost.requests}${cost.messages === undefined ? '' : `, ${cost.messages} messages`}`;
    const open = [
      toTime(cost.functionMs),
      ...(cost.companionMs === undefined ? [] : [`companion ${toTime(cost.companionMs)}`]),
      ...(cost.sandboxMs === undefined ? [] : [`sandbox ${toTime(cost.sandboxMs)}`]),
    ];
    const usd = `$${priceOf(cost).toFixed(2)}${cost.model === true ? ' + the model' : ''}`;
    const operations = [cost.writes, cost.reads, cost.deletes].map(toCell);
    const sizes = [`${cost.logKib} KiB`, `${cost.sentKib} KiB`];
    return `| ${[cost.call, requests, ...operations, open.join(', '), ...sizes, usd].join(' | ')} |`;
  });
  return [
    '| call | requests | writes | reads | deletes | open | logs | sent | per million |',
    '|---|---|---|---|---|---|---|---|---|',
    ...rows,
  ].join('\n');
}

function toCell({ count, of }: Documents): string {
  return of === undefined ? String(count) : `${count} (${of})`;
}

function toTime(ms: number): string {
  return ms < 1_000 ? `${ms} ms` : `${ms / 1_000} s`;
}
