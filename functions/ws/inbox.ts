// The calls of one socket: as many at once as it may have in flight, a bounded number waiting in order, the rest refused. What a message
// says is not judged here.

/** Calls in flight; a batch counts as its calls, and one of more runs alone. */
export const CALLS_MAX = 32;
/** Messages waiting for a place, and their bytes. */
const WAITING_MAX = 256;
const WAITING_BYTES_MAX = 1 << 20;
/** Refusals under way (each is charged to its key) above which the peer is not read from. */
const REFUSING_MAX = 64;

export interface Inbox {
  add(body: Buffer): void;
  readonly isEmpty: boolean;
  /** Forgets what waits and takes no more. */
  stop(): void;
}

export interface InboxOptions {
  /** Answers a message. Must not reject. */
  handle(body: Buffer): Promise<void>;
  /** Answers a message that finds no place. Must not reject. */
  refuse(body: Buffer): Promise<void>;
  onPause(): void;
  onResume(): void;
}

export function createInbox({ handle, refuse, onPause, onResume }: InboxOptions): Inbox {
  const waiting: { readonly body: Buffer; readonly weight: number }[] = [];
  let waitingBytes = 0;
  let inFlight = 0;
  let refusing = 0;
  let stopped = false;

  function fits(weight: number): boolean {
    return inFlight === 0 || inFlight + weight <= CALLS_MAX;
  }

  function start(body: Buffer, weight: number): void {
    inFlight += weight;
    void handle(body).then(() => {
      inFlight -= weight;
      startWaiting();
    });
  }

  function startWaiting(): void {
    for (let first = waiting[0]; first !== undefined && fits(first.weight); first = waiting[0]) {
      waiting.shift();
      waitingBytes -= first.body.length;
      start(first.body, first.weight);
    }
  }

  return {
    add(body) {
      if (stopped) return;
      const weight = weightOf(body);
      if (waiting.length === 0 && fits(weight)) start(body, weight);
      else if (waiting.length < WAITING_MAX && waitingBytes + body.length <= WAITING_BYTES_MAX) {
        waiting.push({ body, weight });
        waitingBytes += body.length;
      } else {
        if (++refusing === REFUSING_MAX) onPause();
        void refuse(body).then(() => {
          if (refusing-- === REFUSING_MAX) onResume();
        });
      }
    },
    get isEmpty() {
      return waiting.length === 0;
    },
    stop() {
      stopped = true;
      waiting.length = 0;
      waitingBytes = 0;
    },
  };
}

const OPEN_ARRAY = 0x5b;

/** How many calls a message holds, at least 1. Only a batch is looked into; what cannot be read is refused as one call later. */
function weightOf(body: Buffer): number {
  if (body[firstByte(body)] !== OPEN_ARRAY) return 1;
  try {
    const calls: unknown = JSON.parse(body.toString('utf8'));
    return Array.isArray(calls) ? Math.min(CALLS_MAX, Math.max(1, calls.length)) : 1;
  } catch {
    return 1;
  }
}

/** Index of the first byte that is not JSON white space. */
function firstByte(body: Buffer): number {
  let index = 0;
  for (let byte = body[0]; byte === 0x20 || byte === 0x09 || byte === 0x0a || byte === 0x0d; byte = body[++index]);
  return index;
}
