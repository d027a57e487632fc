// Limits guesses of credentials: a token bucket per client address counts wrong keys, tickets, signatures and ID
// tokens. Above the limit they are answered 429 instead of 401; valid credentials are still accepted, because other
// clients may share the address. Also logs refusals: at most one line per address and second, with their number.
import ipaddr from 'ipaddr.js';
import { createTokenBuckets } from '../bounds/token-buckets.ts';
import type { Clock } from '../clock.ts';
import { RpcError } from '../errors.ts';
import type { Logger } from '../log.ts';

/** Wrong credentials that an address may send at once, and refill per second. */
const BURST = 40;
const PER_SECOND = 2;
/** Addresses with a bucket; the least recently used bucket is evicted first. */
const ADDRESSES_MAX = 10_000;
/** Addresses with a separate log line per second; the others share one line. */
const LOGGED_MAX = 100;
const OTHERS = 'others';
const LOG_EVERY_MS = 1_000;

/** The sender of a request; node's IncomingMessage fits. */
export interface Client {
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly socket: { readonly remoteAddress?: string | undefined };
}

/** A refusal of a credential that this module has already logged. */
export class CredentialError extends RpcError {}

export interface WrongCredentials {
  /** Whether the bucket of the address is empty; callers then do no expensive check of a credential. */
  isThrottled(client: Client): boolean;
  /**
   * Counts a wrong credential that was refused with `error`. Returns the error to send: `error` (401), or 429 above the
   * limit.
   */
  refuse(client: Client, error: RpcError): CredentialError;
  /** Logs a request without a credential, which is not counted. Returns the error to send. */
  absent(client: Client, error: RpcError): CredentialError;
  /** Runs a check of a credential; counts it when it fails as `unauthorized`. */
  check<T>(client: Client, work: () => T | Promise<T>): Promise<T>;
  /** Logs the counts since the last lines. */
  flush(): void;
}

export interface WrongCredentialsOptions {
  readonly clock: Clock;
  readonly log: Logger;
  /** True: Google's front end writes the client's address to a header. Elsewhere a client could forge that header. */
  readonly isBehindFrontEnd: boolean;
}

export function createWrongCredentials(options: WrongCredentialsOptions): WrongCredentials {
  const { clock, isBehindFrontEnd } = options;
  const buckets = createTokenBuckets({ clock, burst: BURST, perSecond: PER_SECOND, keysMax: ADDRESSES_MAX });
  const lines = createLines(options.log);
  const addressOf = (client: Client): string => toAddress(client, isBehindFrontEnd);

  function refuse(client: Client, error: RpcError): CredentialError {
    const address = addressOf(client);
    if (buckets.take(address)) {
      lines.add(address, 'wrong');
      return toCredentialError(error);
    }
    lines.add(address, 'throttled');
    const retryAfterMs = buckets.waitMs(address);
    return new CredentialError('rate_limited', {
      message: 'Too Many Requests: too many wrong credentials came from this address',
      data: { limit: BURST, remaining: 0, reset: Math.ceil((clock.now() + retryAfterMs) / 1_000) },
      retryAfterMs,
    });
  }

  return {
    isThrottled: (client) => buckets.waitMs(addressOf(client)) > 0,
    refuse,
    absent(client, error) {
      lines.add(addressOf(client), 'absent');
      return toCredentialError(error);
    },
    async check(client, work) {
      try {
        return await work();
      } catch (error) {
        if (!(error instanceof RpcError) || error.reason !== 'unauthorized') throw error;
        throw error instanceof CredentialError ? error : refuse(client, error);
      }
    },
    flush: lines.flush,
  };
}

function toCredentialError({ reason, message, data, cause }: RpcError): CredentialError {
  return new CredentialError(reason, { message, data, cause });
}

/**
 * The client's address; for IPv6 its /64 prefix, which belongs to one customer. Google's front end appends the address
 * of the client to X-Forwarded-For, so only the last entry cannot be forged.
 */
function toAddress({ headers, socket }: Client, isBehindFrontEnd: boolean): string {
  const forwarded = isBehindFrontEnd ? headers['x-forwarded-for'] : undefined;
  const text = forwarded === undefined ? socket.remoteAddress : String(forwarded).split(',').at(-1)?.trim();
  if (text === undefined || !ipaddr.isValid(text)) return 'unknown';
  const address = ipaddr.process(text);
  if (!(address instanceof ipaddr.IPv6)) return address.toString();
  return `${address.parts
    .slice(0, 4)
    .map((part) => part.toString(16))
    .join(':')}::/64`;
}

type Kind = 'absent' | 'wrong' | 'throttled';

/**
 * Logs the first refusal of an address at once, and further ones in the same second as one line at the end of the
 * second.
 */
function createLines(log: Logger): { add(address: string, kind: Kind): void; flush(): void } {
  let counted = new Map<string, Partial<Record<Kind, number>>>();
  let timer: NodeJS.Timeout | undefined;

  function add(address: string, kind: Kind): void {
    const name = counted.has(address) || counted.size < LOGGED_MAX ? address : OTHERS;
    const counts = counted.get(name);
    if (counts !== undefined) {
      counts[kind] = (counts[kind] ?? 0) + 1;
      return;
    }
    counted.set(name, {});
    write(name, { [kind]: 1 });
    timer ??= setInterval(flush, LOG_EVERY_MS).unref();
  }

  function write(client: string, counts: Partial<Record<Kind, number>>): void {
    const { absent = 0, wrong = 0, throttled = 0 } = counts;
    const count = absent + wrong + throttled;
    if (count > 0) log.warn('credentials refused', { client, count, ...counts });
  }

  function flush(): void {
    const before = counted;
    counted = new Map();
    for (const [client, counts] of before) {
      write(client, counts);
      // The line just written covered this second; further refusals are logged at the end of the next one.
      if (Object.keys(counts).length > 0) counted.set(client, {});
    }
    if (counted.size > 0) return;
    clearInterval(timer);
    timer = undefined;
  }

  return { add, flush };
}
